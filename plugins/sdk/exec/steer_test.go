package exec

import (
	"context"
	"io"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// dyingProcess ends by the signal before the driver has heard that it arrived.
type dyingProcess struct{ killed chan struct{} }

func (p *dyingProcess) Stdin() io.WriteCloser { return nil }
func (p *dyingProcess) Stdout() io.Reader     { return strings.NewReader("") }
func (p *dyingProcess) Stderr() io.Reader     { return strings.NewReader("") }

func (p *dyingProcess) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-p.killed:
		return Killed("SIGTERM"), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *dyingProcess) Signal(ctx context.Context, _ providerv1.ExecSignal) error {
	close(p.killed)
	<-ctx.Done() // the command's end comes first
	return ctx.Err()
}

func (p *dyingProcess) Resize(context.Context, *providerv1.Terminal) error { return nil }

func (p *dyingProcess) Close() error { return nil }

func TestSignalThatEndsTheCommandIsASuccess(t *testing.T) {
	table := NewTable(Options{})
	defer table.Close()
	key := Key{"sbx", "exe"}
	_, err := table.Start(t.Context(), key, nil, &providerv1.ExecSpec{Argv: []string{"x"}},
		func(context.Context) (Process, error) { return &dyingProcess{killed: make(chan struct{})}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Signal(t.Context(), key, providerv1.ExecSignal_EXEC_SIGNAL_TERM); err != nil {
		t.Errorf("the signal that ended the command failed with %v: want success", err)
	}
}
