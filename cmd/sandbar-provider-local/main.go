// The command sandbar-provider-local is the provider that runs sandboxes on this
// machine, in gVisor. It is started by a Sandbar broker; the same binary is also
// the process of each sandbox and gVisor's own processes. The first process inside
// the guest is sandbar-guest-agent, from the same folder, or without one this
// binary too.
package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/plugins/local"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// version is set by the build.
var version = "0.0.0-dev"

// guestAgent is the path of the agent's program, empty if it was not installed.
func guestAgent() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), "sandbar-guest-agent")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func main() {
	runsc.Dispatch()
	switch {
	case shim.IsShim(os.Args):
		os.Exit(shim.Main(os.Args[2]))
	case len(os.Args) == 2 && os.Args[1] == local.ProbeCommand:
		return
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	sdk.Serve(local.New(local.Options{Version: version, GuestAgent: guestAgent(), Log: log}), sdk.Options{
		Logger: log, Tracing: tracing.ForPlugin(os.LookupEnv, "sandbar-provider-local", version),
	})
}
