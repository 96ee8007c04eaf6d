package exec

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Stream is the server's side of AttachExec; grpc.BidiStreamingServer is one.
type Stream interface {
	Context() context.Context
	Recv() (*providerv1.AttachExecRequest, error)
	Send(*providerv1.AttachExecResponse) error
}

// attachment is one AttachExec stream. Two goroutines serve it: the handler's
// own sends, and one that receives, so that neither waits for the other.
type attachment struct {
	session *session
	stream  Stream
	permit  func(*providerv1.ExecInput) error
	cursor  *cursor
	// wake holds a token when state may have changed.
	wake chan struct{}
	// stalled says that receiving waits for room in stdin, so that acknowledgements
	// may be stuck behind input. The session's mu guards it.
	stalled bool
}

func (a *attachment) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// attach adds an attachment; the caller calls detach.
func (s *session) attach(stream Stream, open *providerv1.ExecOpen, permit func(*providerv1.ExecInput) error) (*attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.st.open(open)
	if err != nil {
		return nil, err
	}
	a := &attachment{session: s, stream: stream, permit: permit, cursor: c, wake: make(chan struct{}, 1)}
	s.atts[a] = struct{}{}
	s.changed() // an older writer of stdin may have been replaced, a position may free room
	return a, nil
}

func (a *attachment) detach() {
	s := a.session
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.atts, a)
	s.st.leave(a.cursor)
	s.changed()
}

// send sends frames until the last one. It returns nil after Done and Fault.
func (a *attachment) send() error {
	ctx := a.stream.Context()
	for {
		f, ok := a.step()
		if !ok {
			select {
			case <-a.wake:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		if err := a.stream.Send(f.message()); err != nil {
			return err
		}
		if f.final() {
			return nil
		}
	}
}

func (a *attachment) step() (frame, bool) {
	s := a.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.stalled {
		s.st.acknowledgeSent(a.cursor)
		s.cond.Broadcast()
	}
	return a.cursor.next(s.st)
}

// receive handles the client's frames until the stream ends.
func (a *attachment) receive() {
	for {
		req, err := a.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				a.poke() // the stream's context ends as well
			}
			return
		}
		if err := a.handle(req.GetInput()); err != nil {
			a.fail(fault.From(err))
			return
		}
	}
}

func (a *attachment) fail(err *fault.Error) {
	s := a.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.cursor.failure == nil {
		a.cursor.failure = err
	}
	a.poke()
}

func (a *attachment) handle(in *providerv1.ExecInput) error {
	if err := a.permit(in); err != nil {
		return err
	}
	s := a.session
	switch f := in.GetFrame().(type) {
	case *providerv1.ExecInput_Stdin:
		return a.stdin(f.Stdin)
	case *providerv1.ExecInput_Signal:
		_, err := s.signal(f.Signal) // the outcome shows in the command's end
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f := in.GetFrame().(type) {
	case *providerv1.ExecInput_StdinClose:
		if err := s.st.mayWrite(a.cursor); err != nil {
			return err
		}
		if err := s.st.in.close(f.StdinClose.GetOffset()); err != nil {
			return err
		}
	case *providerv1.ExecInput_Ack:
		if err := s.st.acknowledge(a.cursor, f.Ack); err != nil {
			return err
		}
	case *providerv1.ExecInput_Resize:
		return s.resize(f.Resize)
	case *providerv1.ExecInput_Open:
		return fault.Field("input.open", f.Open.GetExecId(), "an attachment opens once; want it only as the first frame")
	default:
		return fault.Field("input.frame", "", "want one of stdin, stdin_close, ack, resize and signal")
	}
	s.cond.Broadcast()
	return nil
}

// stdin takes over input, waiting while more than the window is on its way into
// the command. A client that keeps to the window never waits. For one that does
// not, the acknowledgements behind this frame cannot be seen; counting what it
// was sent as acknowledged is what keeps a command that echoes from standing
// still for ever.
func (a *attachment) stdin(f *providerv1.ExecStdin) error {
	if len(f.GetData()) > handshake.FrameBytesHard {
		return fault.Field("input.stdin.data", strconv.Itoa(len(f.GetData()))+" bytes",
			"want at most "+strconv.Itoa(handshake.FrameBytesHard)+" bytes in a frame")
	}
	s := a.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.st.mayWrite(a.cursor); err != nil {
		return err
	}
	if s.st.in.size() >= int64(s.opts.StdinWindow) {
		stop := context.AfterFunc(a.stream.Context(), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cond.Broadcast()
		})
		defer stop()
		a.stalled = true
		s.st.acknowledgeSent(a.cursor)
		s.cond.Broadcast()
		for s.st.in.size() >= int64(s.opts.StdinWindow) && !s.abandoned && a.stream.Context().Err() == nil {
			s.cond.Wait()
		}
		a.stalled = false
		if err := s.st.mayWrite(a.cursor); err != nil {
			return err
		}
	}
	if err := s.st.in.accept(f.GetOffset(), f.GetData()); err != nil {
		return err
	}
	s.cond.Broadcast()
	if s.st.in.gone {
		a.poke() // nobody reads: say so
	}
	return nil
}
