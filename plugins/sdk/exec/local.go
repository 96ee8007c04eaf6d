package exec

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// FromState returns the status of a local process that has been waited for: its
// code, or the signal that ended it, by name. It returns nil for nil.
func FromState(state *os.ProcessState) *providerv1.ExitStatus {
	if state == nil {
		return nil
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return Killed(unix.SignalName(ws.Signal()))
	}
	return Exited(state.ExitCode())
}
