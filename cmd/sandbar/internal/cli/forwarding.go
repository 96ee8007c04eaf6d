package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var execSignals = map[os.Signal]providerv1.ExecSignal{
	syscall.SIGINT:  providerv1.ExecSignal_EXEC_SIGNAL_INT,
	syscall.SIGTERM: providerv1.ExecSignal_EXEC_SIGNAL_TERM,
	syscall.SIGHUP:  providerv1.ExecSignal_EXEC_SIGNAL_HUP,
	syscall.SIGQUIT: providerv1.ExecSignal_EXEC_SIGNAL_QUIT,
	syscall.SIGUSR1: providerv1.ExecSignal_EXEC_SIGNAL_USR1,
	syscall.SIGUSR2: providerv1.ExecSignal_EXEC_SIGNAL_USR2,
}

// onSignal passes a signal of this process on to the command. It runs on the
// router's goroutine alone and never blocks.
func (e *execution) onSignal(s os.Signal) {
	if s == syscall.SIGWINCH {
		e.resize()
		return
	}
	sig, ok := execSignals[s]
	if !ok {
		return
	}
	if !interrupts(s) {
		e.enqueue(sig)
		return
	}
	now := e.app.now()
	if now.Sub(e.last[s]) > insist {
		e.counts = 0
	}
	e.last[s] = now
	e.counts++
	if s == syscall.SIGHUP && e.tty {
		e.hangUp.Do(func() { close(e.hungUp) })
		return
	}
	switch {
	case e.counts >= 3 || e.lost.Load():
		// Killing did not end it, or nobody is there to pass signals on to.
		e.abort(&interruptedError{s})
	case e.counts == 2:
		e.enqueue(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	default:
		e.enqueue(sig)
	}
}

func (e *execution) enqueue(sig providerv1.ExecSignal) {
	select {
	case e.queue <- sig:
	default: // sixteen are on their way already
	}
}

// hangUpAgain is how often a command is told that its terminal hung up.
const hangUpAgain = insist / 8

// afterHangUp tells the command that its terminal is gone until it has ended:
// shells forget a signal that comes just before they wait for the next key, and
// there are no more keys. Who ignores it for long enough goes on without us.
func (e *execution) afterHangUp(ctx context.Context) {
	select {
	case <-e.hungUp:
	case <-ctx.Done():
		return
	}
	limit := time.NewTimer(insist)
	defer limit.Stop()
	again := time.NewTicker(hangUpAgain)
	defer again.Stop()
	for {
		e.enqueue(providerv1.ExecSignal_EXEC_SIGNAL_HUP)
		select {
		case <-again.C:
		case <-limit.C:
			e.abort(&interruptedError{syscall.SIGHUP})
			return
		case <-ctx.Done():
			return
		}
	}
}

// resize tells the newest size; an older one that was not sent yet is dropped.
func (e *execution) resize() {
	if !e.tty {
		return
	}
	size := terminal.Size(e.app.stdin)
	select {
	case <-e.sizes:
	default:
	}
	select {
	case e.sizes <- size:
	default:
	}
}

// deliver sends queued signals one after the other.
func (e *execution) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-e.queue:
			cctx, cancel := context.WithTimeout(ctx, signalLimit)
			if err := e.signal(cctx, sig); err != nil && ctx.Err() == nil && !e.tty {
				e.app.warn("could not pass %s on: %s", sig, oneLine(err.Error()))
			}
			cancel()
		}
	}
}

func (e *execution) signal(ctx context.Context, sig providerv1.ExecSignal) error {
	_, err := steady(ctx, e.app, signalLimit, func(ctx context.Context, c *client.Client) (*providerv1.SignalExecResponse, error) {
		_, err := c.SignalExec(ctx, request(&providerv1.SignalExecRequest{Sandbox: ref(e.sandbox), ExecId: e.execID, Signal: sig}))
		return nil, err
	})
	return err
}

// outputBroken is called once, when nobody reads our output any more: the
// command gets what it would get from a pipe, and is killed if that does not
// end it.
func (e *execution) outputBroken(error) {
	e.enqueue(providerv1.ExecSignal_EXEC_SIGNAL_PIPE)
	time.AfterFunc(insist, func() { e.enqueue(providerv1.ExecSignal_EXEC_SIGNAL_KILL) })
}

// output writes to a file, and swallows everything once that has failed, so
// that the command's end can still be learned.
type output struct {
	file   io.Writer
	broken func(error)

	mu  sync.Mutex
	err error
}

// Write never fails.
func (o *output) Write(p []byte) (int, error) {
	if o.failure() != nil {
		return len(p), nil //nolint:nilerr // it was told once; the command's end is still to be learned
	}
	_, err := o.file.Write(p)
	if err == nil {
		return len(p), nil
	}
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	o.broken(err)
	return len(p), nil
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// typed is standard input. In raw mode Ctrl-C is a byte like any other; while
// the connection is lost there is nobody to act on it but us.
type typed struct {
	*terminal.Input
	e *execution
}

func (t *typed) Read(p []byte) (int, error) {
	n, err := t.Input.Read(p)
	if t.e.tty && t.e.lost.Load() && bytes.IndexByte(p[:n], 3) >= 0 {
		t.e.abort(&interruptedError{syscall.SIGINT})
	}
	return n, err
}

// attachStream is an attachment over the API.
type attachStream struct {
	stream *connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
}

func (s attachStream) Send(in *providerv1.ExecInput) error {
	return s.stream.Send(&providerv1.AttachExecRequest{Input: in})
}

func (s attachStream) Recv() (*providerv1.ExecOutput, error) {
	msg, err := s.stream.Receive()
	if err != nil {
		return nil, err
	}
	return msg.GetOutput(), nil
}

func request[T any](msg *T) *connect.Request[T] { return connect.NewRequest(msg) }

func ref(sandbox string) *providerv1.SandboxRef { return &providerv1.SandboxRef{SandboxId: sandbox} }
