package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Transport is one attachment: a stream of frames. Send and Recv are called by
// one goroutine each, at the same time. Both must fail when the context of the
// Dial that made it ends.
type Transport interface {
	Send(*providerv1.ExecInput) error
	Recv() (*providerv1.ExecOutput, error)
}

// Dial opens an attachment. The context ends when the attachment is over.
type Dial func(ctx context.Context) (Transport, error)

// Options of an Attachment.
type Options struct {
	// Stdout and Stderr receive the output, each from one goroutine. Nil: the
	// bytes are taken and dropped. A writer that blocks slows the command down.
	Stdout, Stderr io.Writer
	// Lost is told of output that is gone for good, before what follows it is
	// written. Nil: only the Result says so.
	Lost func(stream providerv1.ExecStream, bytes int64)
	// Patience is how long Run goes on trying to attach without any progress.
	// 0: 30 s, which is longer than a plugin or a broker takes to restart.
	Patience time.Duration
}

const (
	defaultPatience = 30 * time.Second
	// reattachBase and reattachMax bound the random wait between attempts.
	reattachBase = 50 * time.Millisecond
	reattachMax  = 2 * time.Second
	// ackDelay is how long a small acknowledgement waits for company. A command
	// whose retained output is tiny goes on after it.
	ackDelay = 5 * time.Millisecond
	// maxInternal errors of the provider's own making in a row are enough.
	maxInternal = 2
)

// Result is what Run learnt about a command.
type Result struct {
	// Exit is how it ended. Nil if Run ended before that was known; cause UNKNOWN
	// if nobody will ever know.
	Exit *providerv1.ExitStatus
	// StdoutNext and StderrNext are where another Run would go on; -1: the stream
	// was not asked for.
	StdoutNext, StderrNext int64
	// StdoutMissing and StderrMissing count bytes that were lost for good.
	StdoutMissing, StderrMissing int64
	// Attachments counts those that were opened.
	Attachments int
}

// ErrInputEnded is returned by Write when the command takes no more input.
var ErrInputEnded = errors.New("the command takes no more input")

// Attachment follows one command. It is an io.WriteCloser for its stdin.
type Attachment struct {
	opts Options

	mu     sync.Mutex
	ledger *Ledger
	ended  bool
	room   *sync.Cond    // input may go on, or has ended
	work   chan struct{} // holds a token when there may be something to send
}

// New returns an attachment to the command that open names. open is not changed.
func New(open *providerv1.ExecOpen, opts Options) *Attachment {
	if opts.Stdout == nil {
		opts.Stdout = io.Discard
	}
	if opts.Stderr == nil {
		opts.Stderr = io.Discard
	}
	if opts.Patience <= 0 {
		opts.Patience = defaultPatience
	}
	a := &Attachment{opts: opts, ledger: NewLedger(open), work: make(chan struct{}, 1)}
	a.room = sync.NewCond(&a.mu)
	return a
}

// Write sends p to the command's stdin. It returns when all of p is on its way,
// which is when the window has room for it. What is on its way survives the loss
// of an attachment. After Run has returned, Write fails.
func (a *Attachment) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	written := 0
	for {
		if a.ended {
			return written, ErrInputEnded
		}
		n, ok := a.ledger.Write(p[written:])
		written += n
		switch {
		case !ok:
			return written, ErrInputEnded
		case n > 0:
			a.poke()
		}
		if written == len(p) {
			return written, nil
		}
		a.room.Wait()
	}
}

// Close ends the command's stdin; its output goes on.
func (a *Attachment) Close() error {
	a.locked(a.ledger.CloseInput)
	return nil
}

// Resize tells the command the size of its terminal.
func (a *Attachment) Resize(rows, cols uint32) {
	// The clock makes a later client's first size win over an earlier one's last.
	seq := uint64(time.Now().UnixNano())
	a.locked(func() { a.ledger.Resize(seq, rows, cols) })
}

// Signal sends a signal to the command over the stream, once if at all. To know
// whether it arrived, use SignalExec.
func (a *Attachment) Signal(s providerv1.ExecSignal) { a.locked(func() { a.ledger.Signal(s) }) }

func (a *Attachment) locked(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	a.poke()
	a.room.Broadcast()
}

func (a *Attachment) poke() {
	select {
	case a.work <- struct{}{}:
	default:
	}
}

// Run follows the command to its end, attaching again whenever an attachment is
// lost. It returns with an error when ctx ends, when a writer fails, when the
// provider refuses, or when its patience does; the command is not touched by any
// of that. It is called once.
func (a *Attachment) Run(ctx context.Context, dial Dial) (Result, error) {
	defer a.locked(func() { a.ended = true })
	attachments, failures := 0, 0
	good := time.Now() // when an attachment was last worth something
	for {
		before, began := a.progress(), time.Now()
		opened, err := a.attach(ctx, dial)
		if opened {
			attachments++
		}
		result := a.result(attachments)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return result, fmt.Errorf("follow command: %w", context.Cause(ctx))
		}
		if attachments > 0 && a.evicted(err) {
			continue
		}
		if a.progress() != before || opened && time.Since(began) > reattachMax {
			failures, good = 0, time.Now()
		}
		wait, again := reattach(err, failures)
		if !again || time.Since(good)+wait > a.opts.Patience {
			return result, err
		}
		failures++
		if !sleep(ctx, wait) {
			return result, fmt.Errorf("follow command: %w", context.Cause(ctx))
		}
	}
}

func (a *Attachment) result(attachments int) Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.ledger.Result()
	r.Attachments = attachments
	return r
}

// evicted reports whether an attachment was refused because output that was not
// shown yet is gone, as another reader had acknowledged it. The next one begins
// with what is left. A first attachment that asks for what is gone is refused.
func (a *Attachment) evicted(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED) && a.ledger.SkipEvicted()
}

// progress changes when anything was gained.
func (a *Attachment) progress() [3]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return [3]int64{a.ledger.out[stdout].delivered, a.ledger.out[stderr].delivered, a.ledger.in.base}
}

// errLost is the end of a stream without Done.
func errLost() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the exec stream ended before the command's output did")
}

// reattach decides whether an error is worth another attempt, and when.
func reattach(err error, failures int) (time.Duration, bool) {
	var writer writeError
	if errors.As(err, &writer) || errors.Is(err, errProtocol) {
		return 0, false
	}
	e := fault.From(err)
	if e.Code() == codes.Internal && failures >= maxInternal {
		return 0, false
	}
	switch e.Retry() {
	case providerv1.Retry_RETRY_BACKOFF, providerv1.Retry_RETRY_SAME_KEY:
	default:
		return 0, false
	}
	if e.RetryAfter > 0 {
		return e.RetryAfter, true
	}
	limit := reattachMax
	if failures < 16 { // a larger shift is above the maximum anyway
		limit = min(limit, reattachBase<<failures)
	}
	return rand.N(limit + 1), true //nolint:gosec // spreads load, guards nothing
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// writeError is a failure of the caller's own writer.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }
