package execio

import (
	"errors"
	"io"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ackEvery is how much output may pass before it is acknowledged: well below
// any retention a provider may declare, and still one ack per frame at most.
const ackEvery = 16 << 10

// receive handles frames until Done, which gives nil, or the attachment's end.
func (s *session) receive(stream Stream, opened chan<- struct{}) error {
	for {
		out, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF // without Done the stream was lost
		}
		if err != nil {
			return err
		}
		switch f := out.GetFrame().(type) {
		case *providerv1.ExecOutput_Opened:
			err = s.onOpened(f.Opened)
			if opened != nil && err == nil {
				close(opened)
				opened = nil
				if s.OnAttached != nil {
					s.OnAttached()
				}
			}
		case *providerv1.ExecOutput_Data:
			err = s.onData(f.Data)
		case *providerv1.ExecOutput_StdinAck:
			s.input.ack(f.StdinAck.GetNext(), f.StdinAck.GetClosed())
			s.poke()
		case *providerv1.ExecOutput_Fault:
			return fault.FromProto(f.Fault)
		case *providerv1.ExecOutput_Done:
			return s.onDone(f.Done)
		}
		if err != nil {
			return err
		}
	}
}

// onOpened learns where the streams really start and what of stdin is wanted.
func (s *session) onOpened(o *providerv1.ExecOpened) error {
	s.mu.Lock()
	s.anything = true
	skip := func(next, missing *int64, from int64, asked bool) error {
		if !asked || from == *next {
			return nil
		}
		if from < *next {
			return nil // a replay; onData drops what was written before
		}
		if !s.FromOldest {
			return protocolError("the stream starts at %d instead of %d", from, *next)
		}
		*missing += from - *next
		*next = from
		return nil
	}
	err := errors.Join(
		skip(&s.next.Stdout, &s.missing.Stdout, o.GetStdoutFrom(), s.Stdout != nil),
		skip(&s.next.Stderr, &s.missing.Stderr, o.GetStderrFrom(), s.Stderr != nil))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.input.rewind(o.GetStdinNext()); s.Stdin != nil && err != nil {
		return err
	}
	return s.checkUntil()
}

// onData writes what is new in a frame.
func (s *session) onData(d *providerv1.ExecData) error {
	w, next, acked := s.Stdout, &s.next.Stdout, &s.acked.Stdout
	if d.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR {
		w, next, acked = s.Stderr, &s.next.Stderr, &s.acked.Stderr
	}
	data := d.GetData()
	// Only this goroutine changes next, so reading it needs no lock.
	switch at := d.GetOffset(); {
	case w == nil || at+int64(len(data)) <= *next:
		return s.checkUntil()
	case at > *next && s.FromOldest:
		s.mu.Lock()
		s.skipTo(d.GetStream(), at)
		s.mu.Unlock()
	case at > *next:
		return protocolError("output jumps from offset %d to %d", *next, at)
	default:
		data = data[*next-at:]
	}
	if _, err := w.Write(data); err != nil {
		return &writeError{err}
	}
	s.mu.Lock()
	*next += int64(len(data))
	due := *next-*acked >= ackEvery || d.GetEof()
	s.mu.Unlock()
	if due {
		s.poke()
	}
	return s.checkUntil()
}

// skipTo counts output that the provider dropped under DROP_OLDEST.
func (s *session) skipTo(stream providerv1.ExecStream, at int64) {
	next, missing := &s.next.Stdout, &s.missing.Stdout
	if stream == providerv1.ExecStream_EXEC_STREAM_STDERR {
		next, missing = &s.next.Stderr, &s.missing.Stderr
	}
	*missing += at - *next
	*next = at
}

func (s *session) checkUntil() error {
	if s.Until == nil {
		return nil
	}
	if (s.Stdout == nil || s.next.Stdout >= s.Until.Stdout) && (s.Stderr == nil || s.next.Stderr >= s.Until.Stderr) {
		return errUntil
	}
	return nil
}

// onDone checks that everything arrived before it believes the exit status.
func (s *session) onDone(d *providerv1.ExecDone) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	short := func(w io.Writer, next, total, missing int64) bool {
		return w != nil && next+missing < total
	}
	if short(s.Stdout, s.next.Stdout, d.GetStdoutTotal(), d.GetStdoutMissing()) ||
		short(s.Stderr, s.next.Stderr, d.GetStderrTotal(), d.GetStderrMissing()) {
		return protocolError("done at %d/%d bytes, having sent %d/%d",
			d.GetStdoutTotal(), d.GetStderrTotal(), s.next.Stdout, s.next.Stderr)
	}
	s.missing.Stdout = max(s.missing.Stdout, d.GetStdoutMissing())
	s.missing.Stderr = max(s.missing.Stderr, d.GetStderrMissing())
	s.exit = d.GetExit()
	if s.exit == nil {
		s.exit = &providerv1.ExitStatus{Cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN}
	}
	s.complete = true
	return nil
}

// protocolError is a peer that breaks the framing. Attaching again at the
// offset that was reached is the right answer to it.
func protocolError(format string, args ...any) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "exec stream: "+format, args...)
}
