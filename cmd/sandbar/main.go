// Command sandbar makes and uses sandboxes, and runs the broker that makes them.
package main

import (
	"os"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/cli"
)

// version is set by the linker for releases.
var version string

func main() {
	collectLater()
	os.Exit(cli.Main(cli.Process{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Environ: os.Environ(),
		Version: version,
		Serve:   cli.RunBroker,
	}))
}
