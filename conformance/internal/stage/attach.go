package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Attachment is one AttachExec. A goroutine reads it, acknowledges what it read,
// and checks the protocol; it ends with the stream, at the latest with the case.
type Attachment struct {
	t      *engine.T
	what   string
	stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
	cancel context.CancelFunc
	ended  chan struct{}
	// silent attachments acknowledge nothing; those with a gate read nothing after
	// Opened until it is open.
	silent bool
	gate   chan struct{}
	// patience is how long nothing may arrive while something is waited for.
	patience time.Duration
	// fromOldest and mayDrop are what the checks of frames depend on.
	fromOldest, mayDrop bool

	send sync.Mutex // one sender at a time, as gRPC demands

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each frame
	opened  *providerv1.ExecOpened
	streams [3]received // by ExecStream
	exit    *providerv1.ExitStatus
	done    *providerv1.ExecDone
	fault   *fault.Error
	err     error
	stdin   int64 // offset of the next byte to send
	acked   *providerv1.ExecStdinAck
}

// AttachOption changes how a command is attached to.
type AttachOption func(*Attachment, *providerv1.ExecOpen)

// From reads from offsets; -1 leaves a stream out.
func From(stdout, stderr int64) AttachOption {
	return func(_ *Attachment, o *providerv1.ExecOpen) { o.StdoutFrom, o.StderrFrom = stdout, stderr }
}

// FromOldest starts at the oldest byte where the offset asked for is gone.
func FromOldest() AttachOption {
	return func(a *Attachment, o *providerv1.ExecOpen) { a.fromOldest, o.FromOldest = true, true }
}

// Writer becomes the writer of standard input.
func Writer() AttachOption { return func(_ *Attachment, o *providerv1.ExecOpen) { o.Stdin = true } }

// Silent does not acknowledge output.
func Silent() AttachOption { return func(a *Attachment, _ *providerv1.ExecOpen) { a.silent = true } }

// Stalled reads nothing after Opened, until Proceed.
func Stalled() AttachOption {
	return func(a *Attachment, _ *providerv1.ExecOpen) { a.gate = make(chan struct{}) }
}

// Hashed keeps a digest of output in place of the output, for more of it than
// memory should hold.
func Hashed() AttachOption {
	return func(a *Attachment, _ *providerv1.ExecOpen) {
		for i := range a.streams {
			a.streams[i].hashed()
		}
	}
}

// Attach opens an attachment; it must begin.
func (c *Command) Attach(options ...AttachOption) *Attachment {
	a := c.TryAttach(options...)
	a.await("an Opened frame", func() bool { return a.opened != nil })
	return a
}

// TryAttach opens an attachment that may be refused.
func (c *Command) TryAttach(options ...AttachOption) *Attachment {
	ctx, cancel := context.WithCancel(c.t.Context())
	a := &Attachment{
		t: c.t, what: brief(c.Request.GetSpec()), cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{}),
		patience: Patience(c.t),
		mayDrop:  c.Request.GetSpec().GetOutputPolicy() == providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST,
	}
	open := &providerv1.ExecOpen{Sandbox: c.box.Ref, ExecId: c.ID}
	for _, option := range options {
		option(a, open)
	}
	stream, err := c.box.client.AttachExec(ctx)
	if err != nil {
		cancel()
		c.t.Fatalf("AttachExec: %s: want a stream", subject.Describe(err))
	}
	a.stream = stream
	for s, from := range map[providerv1.ExecStream]int64{
		providerv1.ExecStream_EXEC_STREAM_STDOUT: open.GetStdoutFrom(), providerv1.ExecStream_EXEC_STREAM_STDERR: open.GetStderrFrom(),
	} {
		a.streams[s].asked, a.streams[s].from = from, from
	}
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: open}})
	go a.read()
	c.t.Cleanup(func(context.Context) { a.Detach() })
	return a
}

// frame sends one frame. An attachment that has ended takes no more, which is no
// error: how it ended is what the case looks at.
func (a *Attachment) frame(in *providerv1.ExecInput) {
	a.send.Lock()
	defer a.send.Unlock()
	_ = a.stream.Send(&providerv1.AttachExecRequest{Input: in})
}

// read takes frames until the stream ends.
func (a *Attachment) read() {
	defer close(a.ended)
	for {
		resp, err := a.stream.Recv()
		a.mu.Lock()
		if err != nil {
			a.finish(err)
		} else {
			a.take(resp.GetOutput())
		}
		close(a.changed)
		a.changed = make(chan struct{})
		ack := &providerv1.ExecAck{
			Stdout: a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].next(), Stderr: a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].next(),
		}
		a.mu.Unlock()
		if err != nil {
			return
		}
		if resp.GetOutput().GetData() != nil && !a.silent {
			a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: ack}})
		}
		if a.gate != nil {
			select {
			case <-a.gate:
			case <-a.stream.Context().Done():
			}
		}
	}
}

// await waits until something about the attachment is true. It fails the case
// when nothing at all arrives for as long as a.patience allows. is runs under mu.
func (a *Attachment) await(what string, is func() bool) {
	patience := a.patience
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		a.mu.Lock()
		ok, over, fail, changed := is(), a.err != nil, a.fault, a.changed
		a.mu.Unlock()
		switch {
		case ok:
			return
		case fail != nil:
			a.t.Fatalf("%s: the attachment ended with %s: want %s", a.what, subject.Describe(fail), what)
		case over:
			a.t.Fatalf("%s: the attachment ended: want %s", a.what, what)
		}
		select {
		case <-changed:
			silence.Reset(patience)
		case <-silence.C:
			a.t.Fatalf("%s: nothing came for %s: want %s; so far came stdout %s, stderr %s", a.what, patience, what,
				Excerpt(a.Stdout()), Excerpt(a.Stderr()))
		case <-a.t.Context().Done():
			a.t.Fatalf("%s: want %s; until the case's budget ended came stdout %s, stderr %s", a.what, what,
				Excerpt(a.Stdout()), Excerpt(a.Stderr()))
		}
	}
}

// Stdout is what came of standard output so far.
func (a *Attachment) Stdout() []byte { return a.got(providerv1.ExecStream_EXEC_STREAM_STDOUT) }

// Stderr is what came of standard error so far.
func (a *Attachment) Stderr() []byte { return a.got(providerv1.ExecStream_EXEC_STREAM_STDERR) }

func (a *Attachment) got(s providerv1.ExecStream) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.streams[s].data)
}

// Opened is the frame that the attachment began with.
func (a *Attachment) Opened() *providerv1.ExecOpened {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened
}

// Next is the offset after what came of standard output.
func (a *Attachment) Next() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].next()
}

// Until waits for standard output to contain a text.
func (a *Attachment) Until(text string) {
	a.await("standard output with "+Excerpt([]byte(text)), func() bool {
		return bytes.Contains(a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].data, []byte(text))
	})
}

// AwaitStderr waits for standard error to have n bytes.
func (a *Attachment) AwaitStderr(n int64) {
	a.await("standard error", func() bool { return a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].n >= n })
}

// Silence says for how long nothing may arrive before the case fails, in place
// of Patience.
func (a *Attachment) Silence(d time.Duration) { a.patience = d }

// Grows waits for standard output to have at least n bytes more than before.
func (a *Attachment) Grows(n int64) {
	a.mu.Lock()
	before := a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].n
	a.mu.Unlock()
	a.await("more standard output", func() bool {
		return a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].n >= before+n
	})
}

// Quiet waits, and reports whether standard output stayed as it was.
func (a *Attachment) Quiet(d time.Duration) bool {
	before := a.Next()
	Pause(a.t, d)
	return a.Next() == before
}

// AwaitExit waits for the Exit frame, which may come before the last output.
func (a *Attachment) AwaitExit() *providerv1.ExitStatus {
	a.await("Exit", func() bool { return a.exit != nil })
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.exit
}

// Proceed lets a stalled attachment read on.
func (a *Attachment) Proceed() { close(a.gate) }

// Wait waits for the command's end and returns what came.
func (a *Attachment) Wait() Output {
	a.await("Done", func() bool { return a.done != nil })
	a.awaitEnd("the stream did not end after Done")
	a.mu.Lock()
	defer a.mu.Unlock()
	if !errors.Is(a.err, io.EOF) {
		a.t.Errorf("%s: after Done the stream ended with %s: want OK", a.what, subject.Describe(a.err))
	}
	if !proto.Equal(a.exit, a.done.GetExit()) {
		a.t.Errorf("%s: Exit said %s, and Done says %s", a.what, ExitText(a.exit), ExitText(a.done.GetExit()))
	}
	out := &a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT]
	o := Output{
		t: a.t, what: a.what, Exit: a.done.GetExit(), Done: a.done,
		Stdout: out.data, Stderr: a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].data,
	}
	if out.sum != nil {
		o.Sum = out.sum.Sum(nil)
	}
	return o
}

// awaitEnd waits for the stream to end; problem says what is wrong if it does
// not.
func (a *Attachment) awaitEnd(problem string) {
	timer := time.NewTimer(Patience(a.t))
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		a.t.Fatalf("%s: %s", a.what, problem)
	case <-a.t.Context().Done():
		a.t.Fatalf("%s: %s", a.what, problem)
	}
}

// Refused waits for the attachment to be refused before it began, for one of the
// given reasons, and properly: with a status.
func (a *Attachment) Refused(what string, reasons ...providerv1.ErrorReason) *fault.Error {
	a.awaitEnd(what + " goes on: want it refused")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opened != nil {
		a.t.Fatalf("%s was opened, from offset %d of standard output: want it refused with a status", what, a.opened.GetStdoutFrom())
	}
	if errors.Is(a.err, io.EOF) {
		a.t.Fatalf("%s ended with status OK and without Opened: want it refused with a status", what)
	}
	return Refused(a.t, what, a.err, reasons...)
}

// Faulted waits for the attachment, which began, to be ended by a Fault frame,
// and checks its reason.
func (a *Attachment) Faulted(what string, reasons ...providerv1.ErrorReason) *fault.Error {
	a.awaitEnd(what + " did not end the attachment: want a Fault frame")
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.done != nil:
		a.t.Fatalf("%s: the attachment ended with Done: want a Fault frame", what)
	case !errors.Is(a.err, io.EOF):
		a.t.Fatalf("%s: the attachment, which had begun, ended with status %s: want a Fault frame, then status OK", what, subject.Describe(a.err))
	case a.fault == nil:
		a.t.Fatalf("%s: the attachment ended without a Fault frame", what)
	case !slices.Contains(reasons, a.fault.Reason):
		a.t.Fatalf("%s: the attachment ended with %s: want %s", what, subject.Describe(a.fault), names(reasons))
	}
	return a.fault
}

// End waits for the attachment to end in any way. It returns the end of the
// command if there was one, and otherwise the error.
func (a *Attachment) End() (*providerv1.ExecDone, *fault.Error) {
	a.awaitEnd("the attachment goes on: want it to end")
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done, a.fault
}

// Detach cancels the attachment.
func (a *Attachment) Detach() {
	a.cancel()
	<-a.ended
}
