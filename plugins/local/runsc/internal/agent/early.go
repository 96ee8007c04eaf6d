package agent

import (
	"os"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// The agent is started before the other packages of its binary are initialised,
// of which it needs none: gVisor's and gRPC's cost more time than all else in a
// new guest. The language initialises packages by import path as soon as what
// they import is, so this one, which imports next to nothing, comes before
// google.golang.org and gvisor.dev.
func init() {
	if os.Args[0] == wire.AgentPath {
		Main()
	}
}
