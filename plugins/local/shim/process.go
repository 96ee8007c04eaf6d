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
	// over is closed when the record tells the end of the sandbox.
	over <-chan struct{}
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
	if errors.Is(err, runsc.ErrOutOfMemory) {
		// Who hears this may ask for the sandbox at once, and should see that it
		// has failed.
		select {
		case <-p.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return outOfMemory(unix.SIGKILL, "the sandbox exceeded its memory limit and was killed as a whole"), nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case exit.OOM:
		return outOfMemory(exit.Signal, "the sandbox reached its memory limit"), nil
	case exit.Signal != 0:
		return exec.Killed(unix.SignalName(exit.Signal)), nil
	}
	return exec.Exited(exit.Code), nil
}

// outOfMemory is the end of a command that was killed for the sandbox's memory
// limit.
func outOfMemory(signal syscall.Signal, detail string) *providerv1.ExitStatus {
	status := exec.Killed(unix.SignalName(signal))
	status.OutOfMemory, status.Cause, status.Detail = true, providerv1.ExitCause_EXIT_CAUSE_SANDBOX, detail
	return status
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
