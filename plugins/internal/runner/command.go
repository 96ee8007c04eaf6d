package runner

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
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

// Order is a command that was started under a runner.
type Order struct {
	Host Host
	// First is the stream from its beginning. The pool closes it.
	First Stream
	// ExecID and Workdir are those that Args was given; Stdin says that the command
	// has standard input.
	ExecID, Workdir string
	Stdin           bool
	// Asked is when the vendor was asked for it.
	Asked time.Time
}

// Command is a process of the vendor's that runs one of ours: an exec.Process. Its
// goroutines are follow, which reads what the runner says, and acknowledge.
type Command struct {
	order  Order
	pool   *Pool
	life   context.Context //nolint:containedctx // the command outlives the call that starts it
	cancel context.CancelFunc
	out    [2]*spool
	in     *input        // nil without standard input
	news   chan struct{} // holds one while there is something to acknowledge

	mu     sync.Mutex
	stream Stream
	pid    int64
	// begun is closed when the command runs, or beginning failed with beginErr.
	begun    chan struct{}
	beginErr error
	// over is closed when the end of the command is known, or cannot be known
	// because of endErr.
	over   chan struct{}
	status *providerv1.ExitStatus
	endErr error
}

// Start waits until the command of an order runs, and follows it. When it fails, the
// command is ended: what may have happened is in the error. A call that ctx ended
// fails with ctx.Err().
func (p *Pool) Start(ctx context.Context, order Order) (*Command, error) {
	c := &Command{
		order: order, pool: p, stream: order.First, news: make(chan struct{}, 1), begun: make(chan struct{}), over: make(chan struct{}),
	}
	c.life, c.cancel = context.WithCancel(p.life)
	c.out = [2]*spool{newSpool(c.take), newSpool(c.take)}
	if order.Stdin {
		c.in = &input{p: c, changed: make(chan struct{})}
	}
	context.AfterFunc(c.life, c.closeStream)
	if !p.spawn(c.follow) || !p.spawn(c.acknowledge) {
		c.abandon()
		return nil, draining().WithEffect(providerv1.Effect_EFFECT_UNKNOWN)
	}
	var err error
	select {
	case <-c.begun:
		err = c.beginErr
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

func draining() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the provider is stopping")
}

// abandon ends what may have been started for a call that failed: the runner ends
// its command when it is asked to terminate.
func (c *Command) abandon() {
	c.cancel()
	c.pool.Background(sideCall, func(ctx context.Context) {
		if err := c.order.Host.End(ctx); err != nil {
			c.pool.log.Warn("a command that nobody waits for could not be ended", "exec_id", c.order.ExecID, "error", err)
		}
	})
}

// closeStream makes a read of the stream return.
func (c *Command) closeStream() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream.Close()
}

// Stdin implements exec.Process.
func (c *Command) Stdin() io.WriteCloser {
	if c.in == nil {
		return nil
	}
	return c.in
}

// Stdout implements exec.Process.
func (c *Command) Stdout() io.Reader { return c.out[0] }

// Stderr implements exec.Process.
func (c *Command) Stderr() io.Reader { return c.out[1] }

// Began says when the vendor was asked for the command: that it runs is heard later,
// and sometimes much later than its end is after its end.
func (c *Command) Began() time.Time { return c.order.Asked }

// Resize implements exec.Process. It is never called: a runner has no terminal.
func (c *Command) Resize(context.Context, *providerv1.Terminal) error {
	return fault.Unsupported("exec.pty")
}

// Wait implements exec.Process.
func (c *Command) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-c.over:
		return c.status, c.endErr
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Signal implements exec.Process. A signal that finds no process is for a command
// that has ended, and the news of it are on their way.
func (c *Command) Signal(ctx context.Context, signal providerv1.ExecSignal) error {
	name := strings.TrimPrefix(exec.SignalName(signal), "SIG")
	found, err := c.order.Host.Signal(ctx, c.pid, name)
	if c.ended() || (err == nil && found) {
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case <-c.over:
		return nil
	case <-ctx.Done():
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "signal %s did not reach the command, which has not ended", name).
			With("signal", name).With("exec_id", c.order.ExecID).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
}

// lostTrack reports that nobody knows how the command ended: then there is no runner
// to speak to.
func (c *Command) lostTrack() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endErr != nil
}

func (c *Command) ended() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// Close implements exec.Process. A runner that still has somebody's output to wait
// for is told that nobody reads it, and leaves.
func (c *Command) Close() error {
	said, lost := c.said(), c.lostTrack() // before follow is ended, which then knows of no end
	c.cancel()
	c.out[0].fail(io.ErrClosedPipe)
	c.out[1].fail(io.ErrClosedPipe)
	if lost {
		return nil
	}
	c.pool.Background(sideCall, func(ctx context.Context) {
		var err error
		if !said {
			err = c.writeAck(ctx, "close")
		}
		if err == nil {
			err = c.order.Host.Free(ctx)
		}
		if err != nil {
			c.pool.log.Debug("a runner could not be told to leave", "exec_id", c.order.ExecID, "error", err)
		}
	})
	return nil
}
