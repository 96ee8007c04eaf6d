package relay

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec returns the usual codec of protocol buffers, which also takes frames.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

// Call lets a stream take frames.
func Call() grpc.CallOption { return grpc.ForceCodecV2(Codec()) }

type codec struct{ encoding.CodecV2 }

// Marshal hands the frame's bytes over; the frame is empty afterwards.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*Frame)
	if !ok {
		return c.CodecV2.Marshal(v) //nolint:wrapcheck // it is the codec
	}
	data := f.data
	f.data = nil
	return data, nil
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Frame)
	if !ok {
		return c.CodecV2.Unmarshal(data, v) //nolint:wrapcheck // it is the codec
	}
	f.Free()
	data.Ref()
	f.data = data
	return nil
}
