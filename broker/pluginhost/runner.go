package pluginhost

import (
	"context"
	"io"
	"os"
	"strconv"
)

// runner is the face that process shows to go-plugin.
type runner struct {
	*process
	program   *os.File
	diagnosis func() string
}

// Start implements runner.Runner.
func (r runner) Start(context.Context) error { return r.start(r.program) }

// Wait returns when the process is gone and its pipes are closed.
func (r runner) Wait(context.Context) error {
	<-r.exited
	return r.err
}

func (r runner) Stdout() io.ReadCloser { return r.outR }
func (r runner) Stderr() io.ReadCloser { return r.errR }
func (r runner) Name() string          { return r.path }

// ID is the pid, or empty when nothing was started.
func (r runner) ID() string {
	select {
	case <-r.started:
		return strconv.Itoa(r.pid())
	default:
		return ""
	}
}

// Diagnose adds what the process said to an error of the handshake.
func (r runner) Diagnose(context.Context) string { return r.diagnosis() }

// PluginToHost and HostToPlugin are the same place: both see one file system.
func (r runner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (r runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
