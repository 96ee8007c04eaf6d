// Command sandbar makes and uses sandboxes. The broker that makes them is a program of
// its own, sandbar-broker.
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
	}))
}
