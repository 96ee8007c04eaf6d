package execio

import (
	"context"
	"io"
	"slices"
	"sync"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// chunkSize is the payload the framing recommends.
const chunkSize = handshake.FrameBytes

// chunk is a piece of stdin at its offset.
type chunk struct {
	at   int64
	data []byte
}

func (c chunk) end() int64 { return c.at + int64(len(c.data)) }

// input holds the part of stdin that the peer has not taken over yet.
type input struct {
	mu     sync.Mutex
	chunks []chunk // contiguous
	taken  int64   // everything before was taken over
	end    int64   // end of what was read so far
	eof    bool    // stdin ended at end
	closed bool    // the peer wants no more
	sent   int64   // next byte to send on this attachment
	shut   bool    // the half-close was sent on this attachment
	room   chan struct{}
}

func newInput() *input { return &input{room: make(chan struct{}, 1)} }

// fill reads r until it ends, the peer closes stdin, or the context ends.
func (in *input) fill(ctx context.Context, r io.Reader, poke func()) {
	for in.waitRoom(ctx) {
		buf := make([]byte, chunkSize)
		n, err := r.Read(buf)
		in.mu.Lock()
		if n > 0 {
			in.chunks = append(in.chunks, chunk{at: in.end, data: buf[:n]})
			in.end += int64(n)
		}
		// An unreadable stdin ends like an empty one: the command sees its end.
		in.eof = err != nil
		in.mu.Unlock()
		poke()
		if err != nil {
			return
		}
	}
}

// waitRoom waits until one more chunk fits into the window that the contract
// allows for stdin that was not taken over yet.
func (in *input) waitRoom(ctx context.Context) bool {
	for {
		in.mu.Lock()
		ok, closed := in.end-in.taken <= handshake.StdinWindowBytes-chunkSize, in.closed
		in.mu.Unlock()
		if closed || ctx.Err() != nil {
			return false
		}
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-in.room:
		}
	}
}

// frame returns the next piece of stdin to send, its end, or nil.
func (in *input) frame() *providerv1.ExecInput {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	in.sent = max(in.sent, in.taken)
	i, _ := slices.BinarySearchFunc(in.chunks, in.sent, func(c chunk, at int64) int {
		if c.end() <= at {
			return -1
		}
		return 0
	})
	if i < len(in.chunks) {
		c := in.chunks[i]
		data := c.data[in.sent-c.at:]
		frame := &providerv1.ExecStdin{Offset: in.sent, Data: data}
		in.sent = c.end()
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: frame}}
	}
	if in.eof && !in.shut {
		in.shut = true
		return &providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: in.end}}}
	}
	return nil
}

// ack forgets what the peer took over.
func (in *input) ack(next int64, closed bool) {
	in.mu.Lock()
	in.advance(next)
	in.closed = in.closed || closed
	in.mu.Unlock()
	select {
	case in.room <- struct{}{}:
	default:
	}
}

// rewind starts a new attachment at the byte the peer wants next.
func (in *input) rewind(next int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if next < in.taken || next > in.end {
		return protocolError("stdin is wanted from offset %d, and %d to %d are at hand", next, in.taken, in.end)
	}
	in.advance(next)
	in.sent, in.shut = next, false
	return nil
}

func (in *input) advance(next int64) {
	in.taken = max(in.taken, min(next, in.end))
	drop := 0
	for drop < len(in.chunks) && in.chunks[drop].end() <= in.taken {
		drop++
	}
	in.chunks = slices.Delete(in.chunks, 0, drop)
}
