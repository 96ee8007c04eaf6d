package vercel

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// sideCall bounds a call that is made beside a command, such as an
	// acknowledgement.
	sideCall = 30 * time.Second
	// maxLine bounds a line of the runner: one read of a pipe, in base64.
	maxLine = 1 << 20
	// mostBreaks is how often in a row the stream of a command may break without a
	// line in between before nobody can tell any more how it goes on.
	mostBreaks = 6
	// firstBackoff doubles with each break.
	firstBackoff = 250 * time.Millisecond
)

// command is a process of the vendor's that runs one of ours. Its goroutines are
// follow, which reads what the runner says, and acknowledge.
type command struct {
	d       *Driver
	c       *configuration
	ref     *providerv1.SandboxRef
	session string
	execID  string
	workdir string
	asked   time.Time
	life    context.Context //nolint:containedctx // the command outlives the call that starts it
	cancel  context.CancelFunc
	out     [2]*spool
	in      *input        // nil without standard input
	news    chan struct{} // holds one while there is something to acknowledge

	mu     sync.Mutex
	stream *api.Stream
	// vendorID is of the vendor's command, and pid of ours.
	vendorID string
	pid      int64
	// begun is closed when the command runs, or beginning failed with beginErr.
	begun    chan struct{}
	beginErr error
	// over is closed when the end of the command is known, or cannot be known
	// because of endErr.
	over   chan struct{}
	status *providerv1.ExitStatus
	endErr error
}

// StartProcess implements sdk.Driver.
func (d *Driver) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	workdir := spec.GetWorkdir()
	if workdir == "" {
		workdir = at.Workdir
	}
	asked := time.Now()
	var stream *api.Stream
	err = d.inSession(ctx, ref, &at.Session, func(session string) error {
		stream, err = c.vendor.Run(ctx, session, api.RunRequest{Command: "/bin/sh", Args: runnerArgs(execID, workdir, spec)})
		return err
	})
	if err != nil {
		return nil, d.explainSession(ctx, ref, err, true)
	}
	p := &command{
		d: d, c: c, ref: ref, session: at.Session, execID: execID, workdir: workdir, asked: asked, stream: stream, news: make(chan struct{}, 1),
		begun: make(chan struct{}), over: make(chan struct{}),
	}
	p.life, p.cancel = context.WithCancel(d.life)
	p.out = [2]*spool{newSpool(p.take), newSpool(p.take)}
	if spec.GetStdin() {
		p.in = &input{p: p, changed: make(chan struct{})}
	}
	context.AfterFunc(p.life, p.closeStream)
	if !d.spawn(p.follow) || !d.spawn(p.acknowledge) {
		p.abandon()
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the provider is stopping").WithEffect(effectUnknown)
	}
	select {
	case <-p.begun:
		err = p.beginErr
	case <-ctx.Done():
		err = upstream.Explain(&upstream.LostError{Sent: true, Err: ctx.Err()}, true)
	}
	if err != nil {
		p.abandon()
		return nil, err
	}
	return p, nil
}

// abandon ends what may have been started for a call that failed: the runner ends
// its command when it is asked to terminate.
func (p *command) abandon() {
	p.mu.Lock()
	id, known := p.vendorID, p.beginErr != nil
	p.mu.Unlock()
	p.cancel()
	if id == "" || known {
		return
	}
	p.d.background(func(ctx context.Context) {
		if err := p.c.vendor.Kill(ctx, p.session, id, signalNumbers[providerv1.ExecSignal_EXEC_SIGNAL_TERM]); err != nil {
			p.d.opts.Log.Warn("a command that nobody waits for could not be ended", "exec_id", p.execID, "error", err)
		}
	})
}

// closeStream makes a read of the stream return.
func (p *command) closeStream() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream.Close()
}

// Stdin implements sdk.Process.
func (p *command) Stdin() io.WriteCloser {
	if p.in == nil {
		return nil
	}
	return p.in
}

// Stdout implements sdk.Process.
func (p *command) Stdout() io.Reader { return p.out[0] }

// Stderr implements sdk.Process.
func (p *command) Stderr() io.Reader { return p.out[1] }

// Began says when the vendor was asked for the command: that it runs is heard later,
// and sometimes much later than its end is after its end.
func (p *command) Began() time.Time { return p.asked }

// Resize implements sdk.Process. It is never called: there are no terminals.
func (p *command) Resize(context.Context, *providerv1.Terminal) error {
	return fault.Unsupported("exec.pty")
}

// Wait implements sdk.Process.
func (p *command) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-p.over:
		return p.status, p.endErr
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Signal implements sdk.Process: another command sends it, because the vendor's own
// call would reach the runner.
func (p *command) Signal(ctx context.Context, signal providerv1.ExecSignal) error {
	name := strings.TrimPrefix(exec.SignalName(signal), "SIG")
	stream, err := p.c.vendor.Run(ctx, p.session, api.RunRequest{
		Command: "/bin/sh", Args: []string{"-c", `kill -s "$1" -- "-$2"`, "sandbar", name, strconv.FormatInt(p.pid, 10)},
	})
	if err != nil {
		return p.d.explainSession(ctx, p.ref, err, true)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	for {
		event, err := stream.Next()
		switch {
		case err != nil && p.ended():
			return nil
		case err != nil:
			return upstream.Explain(&upstream.LostError{Sent: true, Err: errors.Join(ctx.Err(), err)}, true)
		case event.Command != nil && event.Command.ExitCode != nil && *event.Command.ExitCode == 0:
			return nil
		case event.Command != nil && event.Command.ExitCode != nil:
			return p.signalled(ctx, name)
		}
	}
}

// signalled is for a signal that found no process: then the command has ended, and
// the news of it are on their way.
func (p *command) signalled(ctx context.Context, name string) error {
	select {
	case <-p.over:
		return nil
	case <-ctx.Done():
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "signal %s did not reach the command, which has not ended", name).
			With("signal", name).With("exec_id", p.execID).WithEffect(effectNone)
	}
}

// lostTrack reports that nobody knows how the command ended: then there is no runner
// to speak to.
func (p *command) lostTrack() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endErr != nil
}

func (p *command) ended() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// Close implements sdk.Process. A runner that still has somebody's output to wait
// for is told that nobody reads it.
func (p *command) Close() error {
	whole := p.out[0].whole() && p.out[1].whole()
	p.cancel()
	p.out[0].fail(io.ErrClosedPipe)
	p.out[1].fail(io.ErrClosedPipe)
	if !whole && !p.lostTrack() {
		p.d.background(func(ctx context.Context) {
			if err := p.writeAck(ctx, "close"); err != nil {
				p.d.opts.Log.Debug("a runner could not be told to leave", "exec_id", p.execID, "error", err)
			}
		})
	}
	return nil
}
