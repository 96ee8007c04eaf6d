// Command sandbar-broker is the command line with the broker in it. `sandbar` becomes
// it for `sandbar serve` and `sandbar plugin`.
package main

import (
	"os"

	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/cli"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/serving"
)

// version is set by the linker for releases.
var version string

func main() {
	os.Exit(cli.Main(cli.Process{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Environ: os.Environ(),
		Version: version,
		Broker:  serving.Broker{Run: server.Run},
	}))
}
