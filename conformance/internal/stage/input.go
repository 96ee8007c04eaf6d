package stage

import (
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Input sends standard input, in frames, within the contract's window.
func (a *Attachment) Input(data []byte) {
	for len(data) > 0 {
		n := min(len(data), handshake.FrameBytes)
		a.mu.Lock()
		at := a.stdin
		a.mu.Unlock()
		a.await("room in the window of standard input", func() bool {
			return a.closedInput() || at+int64(n)-a.taken() <= handshake.StdinWindowBytes
		})
		a.InputAt(at, data[:n])
		data = data[n:]
	}
}

// taken is how far the command's side took standard input. The caller holds mu.
func (a *Attachment) taken() int64 { return max(a.acked.GetNext(), a.opened.GetStdinNext()) }

// closedInput reports whether nothing is read any more. The caller holds mu.
func (a *Attachment) closedInput() bool { return a.acked.GetClosed() }

// InputAt sends one frame of standard input as it is.
func (a *Attachment) InputAt(offset int64, data []byte) {
	a.mu.Lock()
	a.stdin = max(a.stdin, offset+int64(len(data)))
	a.mu.Unlock()
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: offset, Data: data}}})
}

// CloseInput half-closes standard input.
func (a *Attachment) CloseInput() {
	a.mu.Lock()
	at := a.stdin
	a.mu.Unlock()
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: at}}})
}

// Taken is how far the other side says that it took standard input over.
func (a *Attachment) Taken() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken()
}

// AwaitClosed waits until the other side says that input is not read any more.
func (a *Attachment) AwaitClosed() {
	a.await("standard input to be said closed", a.closedInput)
}

// AwaitTaken waits until standard input was taken up to an offset.
func (a *Attachment) AwaitTaken(offset int64) {
	a.await("standard input to be taken over", func() bool { return a.taken() >= offset || a.closedInput() })
}

// Resize changes the terminal's size.
func (a *Attachment) Resize(seq uint64, rows, cols uint32) {
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Resize{Resize: &providerv1.ExecResize{
		Seq: seq, Size: &providerv1.Terminal{Rows: rows, Cols: cols},
	}}})
}

// Acknowledge says that output arrived up to these offsets.
func (a *Attachment) Acknowledge(stdout, stderr int64) {
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: stdout, Stderr: stderr}}})
}

// SendSignal sends a signal by a frame.
func (a *Attachment) SendSignal(signal providerv1.ExecSignal) {
	a.frame(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{Signal: signal}})
}
