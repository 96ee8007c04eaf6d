package session

import (
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// input is stdin: the bytes that the command has not taken over yet.
type input struct {
	wanted bool
	base   int64  // offset of pending[0]
	pend   []byte // written and not acknowledged
	sent   int64  // offset of the next byte to send on this attachment
	most   int64  // the highest sent of all attachments
	closed bool   // the writer closed; the end is at base+len(pend)
	// closeSent is about this attachment.
	closeSent bool
	gone      bool // the command takes no more
}

func (in *input) end() int64 { return in.base + int64(len(in.pend)) }

// room is how many bytes may be written now.
func (in *input) room() int { return max(0, handshake.StdinWindowBytes-len(in.pend)) }

// reopen learns at which byte a new attachment goes on.
func (in *input) reopen(next int64) error {
	if !in.wanted || in.gone {
		return nil
	}
	if next < in.base || next > in.end() {
		return violation("stdin goes on at %d, want an offset from %d to %d", next, in.base, in.end())
	}
	in.drop(next)
	in.sent, in.closeSent = next, false
	return nil
}

// acknowledged takes an acknowledgement, which may be of bytes that only an
// earlier attachment sent: the provider had them, and the command took them over
// after this one was opened. They are not sent again then.
func (in *input) acknowledged(ack *providerv1.ExecStdinAck) error {
	if !in.wanted || in.gone {
		return nil
	}
	if ack.GetNext() > in.most {
		return violation("stdin was acknowledged up to %d, sent up to %d", ack.GetNext(), in.most)
	}
	if ack.GetNext() > in.base {
		in.drop(ack.GetNext())
		in.sent = max(in.sent, in.base)
	}
	if ack.GetClosed() {
		in.gone, in.pend = true, nil
	}
	return nil
}

func (in *input) drop(next int64) {
	in.pend = in.pend[next-in.base:]
	in.base = next
	if len(in.pend) == 0 {
		in.pend = nil // let go of the array
	}
}

// next returns a frame of input, or nil.
func (in *input) next() *providerv1.ExecInput {
	switch {
	case !in.wanted || in.gone:
		return nil
	case in.sent < in.end():
		data := in.pend[in.sent-in.base:]
		data = data[:min(len(data), handshake.FrameBytes):min(len(data), handshake.FrameBytes)]
		f := &providerv1.ExecStdin{Offset: in.sent, Data: data}
		in.sent += int64(len(data))
		in.most = max(in.most, in.sent)
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: f}}
	case in.closed && !in.closeSent:
		in.closeSent = true
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: in.end()}}}
	}
	return nil
}

// Write takes as much of p as the window has room for and returns how much that
// was. ok is false if the command takes no input, or no more.
func (l *Ledger) Write(p []byte) (n int, ok bool) {
	in := &l.in
	if !in.wanted || in.closed || in.gone {
		return 0, false
	}
	n = min(len(p), in.room())
	in.pend = append(in.pend, p[:n]...)
	return n, true
}

// CloseInput ends stdin after what was written.
func (l *Ledger) CloseInput() { l.in.closed = true }

// Resize remembers the terminal's size; only the latest is sent. Of all sizes
// that anybody sends for a command the one with the highest seq wins.
func (l *Ledger) Resize(seq uint64, rows, cols uint32) {
	l.size = &providerv1.ExecResize{Seq: seq, Size: &providerv1.Terminal{Rows: rows, Cols: cols}}
	l.sizeSent = false
}

// Signal queues a signal. One that was on its way when an attachment broke is not
// sent again: two signals are two signals.
func (l *Ledger) Signal(s providerv1.ExecSignal) { l.signals = append(l.signals, s) }

// Next returns the next frame to send on an open attachment, or nil. Small
// acknowledgements are held back unless flush is true.
func (l *Ledger) Next(flush bool) *providerv1.ExecInput {
	if !l.opened || l.done {
		return nil
	}
	if len(l.signals) > 0 {
		s := l.signals[0]
		l.signals = l.signals[1:]
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{Signal: s}}
	}
	if l.size != nil && !l.sizeSent {
		l.sizeSent = true
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Resize{Resize: l.size}}
	}
	if n := l.unacked(); n >= ackBytes || n > 0 && flush {
		ack := &providerv1.ExecAck{}
		for i, v := range [2]*int64{&ack.Stdout, &ack.Stderr} {
			if l.out[i].wanted {
				l.out[i].acked = l.out[i].delivered
				*v = l.out[i].delivered
			}
		}
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: ack}}
	}
	return l.in.next()
}

// unacked is how much output was delivered and not acknowledged.
func (l *Ledger) unacked() int64 {
	var n int64
	for i := range l.out {
		if l.out[i].wanted {
			n += l.out[i].delivered - l.out[i].acked
		}
	}
	return n
}
