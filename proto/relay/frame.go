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

// maxHeader is more than the tags and lengths on a path take.
const maxHeader = 64

// Within reports whether the message consists of one field, that of one field,
// and so on along path, and of nothing else. All of them are messages, strings or
// bytes; what is in the last one does not matter.
func (f *Frame) Within(path ...protowire.Number) bool {
	var space [maxHeader]byte
	head := space[:f.head(space[:])]
	left := f.Len()
	for _, want := range path {
		number, kind, n := protowire.ConsumeTag(head)
		if n < 0 || number != want || kind != protowire.BytesType {
			return false
		}
		size, m := protowire.ConsumeVarint(head[n:])
		if m < 0 || uint64(left-n-m) != size {
			return false
		}
		head, left = head[n+m:], left-n-m
	}
	return true
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

// Receiver and Sender are the parts of gRPC's streams that Copy uses.
type (
	Receiver interface{ RecvMsg(m any) error }
	Sender   interface{ SendMsg(m any) error }
)

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
