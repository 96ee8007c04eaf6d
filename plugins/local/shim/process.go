package shim

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// process shows a guest's exec to the SDK.
type process struct {
	ex *runsc.Exec
}

var _ sdk.Process = (*process)(nil)

func (p *process) Stdin() io.WriteCloser {
	if p.ex.Stdin == nil {
		return nil // not a nil *runsc.Writer in an interface
	}
	return p.ex.Stdin
}

func (p *process) Stdout() io.Reader { return p.ex.Stdout }

func (p *process) Stderr() io.Reader {
	if p.ex.Stderr == nil {
		return nil
	}
	return p.ex.Stderr
}

func (p *process) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	exit, err := p.ex.Wait(ctx)
	if err != nil {
		return nil, err
	}
	status := exec.Exited(exit.Code)
	if exit.Signal != 0 {
		status = exec.Killed(unix.SignalName(exit.Signal))
	}
	status.OutOfMemory = exit.OOM
	if exit.OOM {
		status.Cause = providerv1.ExitCause_EXIT_CAUSE_SANDBOX
		status.Detail = "the sandbox reached its memory limit"
	}
	return status, nil
}

func (p *process) Signal(ctx context.Context, signal providerv1.ExecSignal) error {
	return p.ex.Signal(ctx, unix.SignalNum(exec.SignalName(signal)))
}

func (p *process) Resize(ctx context.Context, size *providerv1.Terminal) error {
	return p.ex.Resize(ctx, runsc.Size{Rows: cells(size.GetRows()), Cols: cells(size.GetCols())})
}

func (p *process) Close() error {
	p.ex.Release()
	return nil
}

// notStarted is a program that could not be executed: one line on standard
// error, and the exit code a shell would give.
type notStarted struct {
	stdout, stderr io.Reader
	stdin          bool
	code           int
}

const (
	codeNotFound      = 127
	codeNotExecutable = 126
)

func failed(e *runsc.GuestError, spec *providerv1.ExecSpec) sdk.Process {
	p := &notStarted{stdout: strings.NewReader(""), stdin: spec.GetStdin(), code: codeNotExecutable}
	if errors.Is(e, fs.ErrNotExist) {
		p.code = codeNotFound
	}
	message := "sandbar: " + e.Error()
	if spec.GetTerminal() != nil {
		p.stdout = strings.NewReader(message + "\r\n")
	} else {
		p.stderr = strings.NewReader(message + "\n")
	}
	return p
}

func (p *notStarted) Stdin() io.WriteCloser {
	if !p.stdin {
		return nil
	}
	return closedStdin{}
}

func (p *notStarted) Stdout() io.Reader { return p.stdout }

func (p *notStarted) Stderr() io.Reader { return p.stderr }

func (p *notStarted) Wait(context.Context) (*providerv1.ExitStatus, error) {
	return exec.Exited(p.code), nil
}

func (p *notStarted) Signal(context.Context, providerv1.ExecSignal) error { return nil }

func (p *notStarted) Resize(context.Context, *providerv1.Terminal) error { return nil }

func (p *notStarted) Close() error { return nil }

// closedStdin is the stdin of a command that never ran.
type closedStdin struct{}

func (closedStdin) Write([]byte) (int, error) { return 0, syscall.EPIPE }
func (closedStdin) Close() error              { return nil }
