package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Attachment is one AttachExec. A goroutine reads it, acknowledges what it read,
// and checks the protocol; it ends with the stream, at the latest with the case.
type Attachment struct {
	t      *engine.T
	what   string
	stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
	cancel context.CancelFunc
	ended  chan struct{}
	silent bool

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

// received is what came of one stream.
type received struct {
	from int64
	data []byte
	eof  bool
}

// AttachOption changes how a command is attached to.
type AttachOption func(*Attachment, *providerv1.ExecOpen)

// From reads from offsets; -1 leaves a stream out.
func From(stdout, stderr int64) AttachOption {
	return func(_ *Attachment, o *providerv1.ExecOpen) { o.StdoutFrom, o.StderrFrom = stdout, stderr }
}

// FromOldest starts at the oldest byte where the offset asked for is gone.
func FromOldest() AttachOption {
	return func(_ *Attachment, o *providerv1.ExecOpen) { o.FromOldest = true }
}

// Writer becomes the writer of standard input.
func Writer() AttachOption { return func(_ *Attachment, o *providerv1.ExecOpen) { o.Stdin = true } }

// Silent does not acknowledge output.
func Silent() AttachOption { return func(a *Attachment, _ *providerv1.ExecOpen) { a.silent = true } }

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
	a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].from = open.GetStdoutFrom()
	a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].from = open.GetStderrFrom()
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
	}
}

func (r received) next() int64 { return max(r.from, 0) + int64(len(r.data)) }

// take checks one frame and keeps it. The caller holds mu.
func (a *Attachment) take(out *providerv1.ExecOutput) {
	if a.done != nil || a.fault != nil {
		a.t.Errorf("%s: a frame %T came after the last one", a.what, out.GetFrame())
		return
	}
	if opened := out.GetOpened(); opened != nil {
		if a.opened != nil {
			a.t.Errorf("%s: Opened came twice", a.what)
		}
		a.opened = opened
		a.stdin = opened.GetStdinNext()
		a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].from = opened.GetStdoutFrom()
		a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].from = opened.GetStderrFrom()
		return
	}
	if a.opened == nil {
		a.t.Errorf("%s: the first frame is %T: want Opened", a.what, out.GetFrame())
	}
	switch f := out.GetFrame().(type) {
	case *providerv1.ExecOutput_Data:
		a.takeData(f.Data)
	case *providerv1.ExecOutput_StdinAck:
		a.acked = f.StdinAck
	case *providerv1.ExecOutput_Exit:
		if a.exit != nil {
			a.t.Errorf("%s: Exit came twice", a.what)
		}
		a.exit = f.Exit
	case *providerv1.ExecOutput_Done:
		a.takeDone(f.Done)
	case *providerv1.ExecOutput_Fault:
		a.fault = fault.FromProto(f.Fault)
	default:
		a.t.Errorf("%s: an empty frame came", a.what)
	}
}

func (a *Attachment) takeData(d *providerv1.ExecData) {
	s := d.GetStream()
	if s != providerv1.ExecStream_EXEC_STREAM_STDOUT && s != providerv1.ExecStream_EXEC_STREAM_STDERR {
		a.t.Errorf("%s: data of stream %s", a.what, s)
		return
	}
	r := &a.streams[s]
	if want := r.next(); d.GetOffset() != want && len(d.GetData()) > 0 {
		a.t.Errorf("%s: data of %s at offset %d: want %d, the end of what came before", a.what, s, d.GetOffset(), want)
	}
	if r.eof && len(d.GetData()) > 0 {
		a.t.Errorf("%s: data of %s came after its end", a.what, s)
	}
	if len(d.GetData()) > handshake.FrameBytes {
		a.t.Errorf("%s: a frame of %d bytes: want at most %d", a.what, len(d.GetData()), handshake.FrameBytes)
	}
	r.data = append(r.data, d.GetData()...)
	r.eof = r.eof || d.GetEof()
}

func (a *Attachment) takeDone(done *providerv1.ExecDone) {
	a.done = done
	if a.exit == nil {
		a.t.Errorf("%s: Done came without an Exit before it", a.what)
	}
	for s, total := range map[providerv1.ExecStream]int64{
		providerv1.ExecStream_EXEC_STREAM_STDOUT: done.GetStdoutTotal() - done.GetStdoutMissing(),
		providerv1.ExecStream_EXEC_STREAM_STDERR: done.GetStderrTotal() - done.GetStderrMissing(),
	} {
		r := a.streams[s]
		if r.from >= 0 && r.next() != total && !a.leftOut(s) {
			a.t.Errorf("%s: Done says that %s has %d bytes, missing ones not counted, and %d came", a.what, s, total, r.next())
		}
	}
}

// leftOut reports whether the attachment asked not to get a stream. The caller
// holds mu.
func (a *Attachment) leftOut(s providerv1.ExecStream) bool { return a.streams[s].from < 0 }

// finish notes the end of the stream. The caller holds mu.
func (a *Attachment) finish(err error) {
	a.err = err
	if !errors.Is(err, io.EOF) {
		a.fault = fault.From(err)
	}
}

// await waits until something about the attachment is true. is runs under mu.
func (a *Attachment) await(what string, is func() bool) {
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

// Grows waits for standard output to have at least n bytes more than before.
func (a *Attachment) Grows(n int) {
	before := len(a.Stdout())
	a.await("more standard output", func() bool {
		return len(a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].data) >= before+n
	})
}

// Quiet waits, and reports whether standard output stayed as it was.
func (a *Attachment) Quiet(d time.Duration) bool {
	before := len(a.Stdout())
	Pause(a.t, d)
	return len(a.Stdout()) == before
}

// Wait waits for the command's end and returns what came.
func (a *Attachment) Wait() Output {
	a.await("Done", func() bool { return a.done != nil })
	select {
	case <-a.ended:
	case <-a.t.Context().Done():
		a.t.Fatalf("%s: the stream did not end after Done", a.what)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !errors.Is(a.err, io.EOF) {
		a.t.Errorf("%s: after Done the stream ended with %s: want OK", a.what, subject.Describe(a.err))
	}
	return Output{
		t: a.t, what: a.what, Exit: a.done.GetExit(), Done: a.done,
		Stdout: a.streams[providerv1.ExecStream_EXEC_STREAM_STDOUT].data, Stderr: a.streams[providerv1.ExecStream_EXEC_STREAM_STDERR].data,
	}
}

// Failure waits for the attachment to end with an error, and returns it.
func (a *Attachment) Failure() *fault.Error {
	select {
	case <-a.ended:
	case <-a.t.Context().Done():
		a.t.Fatalf("%s: the attachment goes on: want it to end with an error", a.what)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault == nil {
		a.t.Fatalf("%s: the attachment ended without an error", a.what)
	}
	return a.fault
}

// Detach cancels the attachment.
func (a *Attachment) Detach() {
	a.cancel()
	<-a.ended
}
