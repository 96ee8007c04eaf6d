package relay

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Frame is an encoded message. The zero Frame is empty. It holds pooled memory:
// receiving into it again, sending it by gRPC and Free let go of that. It is not
// safe for concurrent use.
type Frame struct{ data mem.BufferSlice }

// Free empties the frame.
func (f *Frame) Free() {
	f.data.Free()
	f.data = nil
}

// Len returns the size of the message.
func (f *Frame) Len() int { return f.data.Len() }

// Set makes a copy of an encoded message the frame's.
func (f *Frame) Set(message []byte) {
	f.Free()
	f.data = mem.BufferSlice{mem.Copy(message, mem.DefaultBufferPool())}
}

// AppendTo appends the encoded message to b.
func (f *Frame) AppendTo(b []byte) []byte {
	for _, part := range f.data {
		b = append(b, part.ReadOnlyData()...)
	}
	return b
}

// Decode decodes the message into m. The frame keeps it.
func (f *Frame) Decode(m proto.Message) error {
	whole := f.data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if err := proto.Unmarshal(whole.ReadOnlyData(), m); err != nil {
		return fmt.Errorf("decode relayed message: %w", err)
	}
	return nil
}

// maxHeader is more than the fields before a payload take.
const maxHeader = 64

// Bulk reports whether the message is a well-formed one that holds a payload, in
// the field of type bytes at the end of path, and nothing else but the numbers
// that lie beside it, such as its offset. A field that is there twice, which a
// decoder would merge, makes it false.
func (f *Frame) Bulk(path ...protowire.Number) bool {
	var space [maxHeader]byte
	head := space[:f.head(space[:])]
	left := f.Len()
	take := func(n int) { head, left = head[n:], left-n }
	for i := 0; i < len(path); {
		number, kind, n := protowire.ConsumeTag(head)
		if n < 0 {
			return false
		}
		take(n)
		value, n := protowire.ConsumeVarint(head)
		if n < 0 {
			return false
		}
		take(n)
		last := i == len(path)-1
		switch {
		case number == path[i] && kind == protowire.BytesType && value == uint64(left):
			i++
		case !last || kind != protowire.VarintType:
			return false
		}
	}
	return len(path) > 0
}

// head copies the message's first bytes.
func (f *Frame) head(b []byte) int {
	n := 0
	for _, part := range f.data {
		if n += copy(b[n:], part.ReadOnlyData()); n == len(b) {
			break
		}
	}
	return n
}

// Receiver is the part of a gRPC stream that Copy reads from.
type Receiver interface{ RecvMsg(m any) error }

// Sender is the part of a gRPC stream that Copy writes to.
type Sender interface{ SendMsg(m any) error }

// Copy sends every frame on until there are no more. Both streams must use Codec.
func Copy(to Sender, from Receiver) error {
	var f Frame
	defer f.Free()
	for {
		err := from.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // the stream's own
		}
		if err := to.SendMsg(&f); err != nil {
			return err //nolint:wrapcheck // the stream's own
		}
	}
}
