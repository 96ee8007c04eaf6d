package execio

import (
	"context"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// send writes acks, sizes and stdin until the attachment ends. It never blocks
// the receiver: a full transport holds up this goroutine alone.
func (s *session) send(ctx context.Context, stream Stream, opened <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-opened:
	}
	for {
		frame := s.frame()
		if frame == nil {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			continue
		}
		if stream.Send(frame) != nil {
			return // the receiver learns why
		}
	}
}

// frame returns the next thing to say, acks first: they are what lets the
// command go on.
func (s *session) frame() *providerv1.ExecInput {
	s.mu.Lock()
	if s.next.Stdout-s.acked.Stdout >= ackEvery || s.next.Stderr-s.acked.Stderr >= ackEvery {
		s.acked = s.next
		ack := &providerv1.ExecAck{Stdout: s.next.Stdout, Stderr: s.next.Stderr}
		s.mu.Unlock()
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: ack}}
	}
	if s.size != nil && s.sizeSent != s.sizeSeq {
		s.sizeSent = s.sizeSeq
		resize := &providerv1.ExecResize{Seq: s.sizeSeq, Size: s.size}
		s.mu.Unlock()
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Resize{Resize: resize}}
	}
	s.mu.Unlock()
	if s.Stdin == nil {
		return nil
	}
	return s.input.frame()
}
