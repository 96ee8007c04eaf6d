package execio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Stream is one attachment as the transport gives it. Send and Receive may run
// at the same time, each from one goroutine.
type Stream interface {
	Send(*providerv1.ExecInput) error
	// Receive returns io.EOF when the peer ended the stream.
	Receive() (*providerv1.ExecOutput, error)
}

// Options describe what to attach to and where its streams go.
type Options struct {
	Sandbox string
	ExecID  string
	// Open starts an attachment whose life is the context. It is called again
	// after each loss.
	Open func(context.Context) (Stream, error)
	// Stdout and Stderr receive the output; nil: that stream is not asked for.
	// A write that fails with Detach set to nil ends Attach with that error.
	Stdout, Stderr io.Writer
	// Stdin is sent until it ends; nil: no input is sent.
	Stdin io.Reader
	// CloseStdin makes a Read of Stdin that waits return; may be nil when Stdin
	// never blocks for long.
	CloseStdin func()
	// Resize delivers new sizes of the terminal; nil: it has none.
	Resize <-chan *providerv1.Terminal
	// FromOldest starts with the oldest output still retained instead of the
	// first byte.
	FromOldest bool
	// Until ends Attach without waiting for the command once the output has
	// reached these offsets; nil: wait for the end.
	Until *Offsets
	// OnLost is told of each lost attachment that will be opened again.
	OnLost func(error)
	// OnAttached is told of each attachment that came about.
	OnAttached func()
	// GiveUp bounds how long no attachment may come about; zero: 30 s.
	GiveUp time.Duration
}

// Offsets are positions in the two output streams.
type Offsets struct{ Stdout, Stderr int64 }

// Result is how an attachment ended.
type Result struct {
	// Exit is nil only if Options.Until ended the attachment.
	Exit *providerv1.ExitStatus
	// Missing counts bytes that were produced and are no longer to be had.
	Missing Offsets
}

// errUntil ends an attachment that has shown what was asked for.
var errUntil = errors.New("output up to the asked offset was shown")

const (
	firstBackoff   = 20 * time.Millisecond
	longestBackoff = 2 * time.Second
	defaultGiveUp  = 30 * time.Second
)

// Attach carries the streams until the command has ended and all its output has
// been written, the context ends, or the exec is known to be gone.
func Attach(ctx context.Context, o Options) (*Result, error) {
	if o.GiveUp == 0 {
		o.GiveUp = defaultGiveUp
	}
	s := &session{Options: o, input: newInput(), wake: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	sctx, cancel := context.WithCancel(ctx)
	if o.Stdin != nil {
		wg.Go(func() { s.input.fill(sctx, o.Stdin, s.poke) })
	}
	if o.Resize != nil {
		wg.Go(func() { s.watchSize(sctx) })
	}
	res, err := s.run(ctx)
	cancel()
	if o.CloseStdin != nil {
		o.CloseStdin()
	}
	wg.Wait()
	return res, err
}

// session is the state that outlives one attachment.
type session struct {
	Options
	input *input
	wake  chan struct{}

	mu       sync.Mutex
	next     Offsets // next byte to write of each stream
	acked    Offsets
	missing  Offsets
	size     *providerv1.Terminal
	sizeSeq  uint64
	sizeSent uint64
	exit     *providerv1.ExitStatus
	complete bool
	anything bool // this attachment was opened by the peer
}

func (s *session) run(ctx context.Context) (*Result, error) {
	backoff := firstBackoff
	var lostAt time.Time
	for {
		s.anything = false
		err := s.attachOnce(ctx)
		switch {
		case errors.Is(err, errUntil):
			return &Result{Missing: s.missing}, nil
		case s.complete && err == nil:
			return &Result{Exit: s.exit, Missing: s.missing}, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case permanent(err):
			return nil, err
		}
		now := time.Now()
		if s.anything || lostAt.IsZero() {
			lostAt, backoff = now, firstBackoff
		}
		if now.Sub(lostAt) > s.GiveUp {
			return nil, fmt.Errorf("the streams of %s were lost and could not be attached again within %s: %w", s.ExecID, s.GiveUp, err)
		}
		if s.OnLost != nil {
			s.OnLost(err)
		}
		if err := pause(ctx, backoff/2+rand.N(backoff/2)); err != nil { //nolint:gosec // jitter needs no secrecy
			return nil, err
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// permanent reports whether attaching again cannot help.
func permanent(err error) bool {
	var w *writeError
	if errors.As(err, &w) {
		return true
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return false
	}
	switch f.Retry() {
	case providerv1.Retry_RETRY_NO, providerv1.Retry_RETRY_AFTER_CHANGE:
		return true
	default:
		return false
	}
}

// writeError says that our own output, not the connection, failed.
type writeError struct{ err error }

func (e *writeError) Error() string { return "write output: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// attachOnce runs one attachment to its end. A nil error means Done was seen.
func (s *session) attachOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.Open(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: s.open()}}); err != nil {
		return lost(stream, err)
	}
	opened := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() { s.send(ctx, stream, opened) })
	err = s.receive(stream, opened)
	cancel()
	sender.Wait()
	return err
}

// lost prefers the peer's own reason to the io.EOF that a failed Send gives.
func lost(stream Stream, sendErr error) error {
	if _, err := stream.Receive(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return sendErr
}

func (s *session) open() *providerv1.ExecOpen {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &providerv1.ExecOpen{
		Sandbox:    &providerv1.SandboxRef{SandboxId: s.Sandbox},
		ExecId:     s.ExecID,
		StdoutFrom: s.next.Stdout,
		StderrFrom: s.next.Stderr,
		Stdin:      s.Stdin != nil,
		FromOldest: s.FromOldest,
	}
	if s.Stdout == nil {
		o.StdoutFrom = -1
	}
	if s.Stderr == nil {
		o.StderrFrom = -1
	}
	s.sizeSent = 0
	return o
}

// poke wakes the sender; one pending wake-up is enough.
func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) watchSize(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-s.Resize:
			if !ok {
				return
			}
			s.mu.Lock()
			s.size = size
			s.sizeSeq++
			s.mu.Unlock()
			s.poke()
		}
	}
}
