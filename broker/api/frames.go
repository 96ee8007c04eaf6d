package api

import (
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// codec is Connect's own for protocol buffers, which also takes relay's frames.
type codec struct{}

// Name implements connect.Codec.
func (codec) Name() string { return "proto" }

// Marshal implements connect.Codec.
func (c codec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend lets Connect use its buffers again.
func (codec) MarshalAppend(b []byte, m any) ([]byte, error) {
	switch m := m.(type) {
	case *relay.Frame:
		return m.AppendTo(b), nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(b, m)
	}
	return nil, notMessage(m)
}

// Unmarshal implements connect.Codec.
func (codec) Unmarshal(data []byte, m any) error {
	switch m := m.(type) {
	case *relay.Frame:
		m.Set(data)
		return nil
	case proto.Message:
		return proto.Unmarshal(data, m)
	}
	return notMessage(m)
}

func notMessage(m any) error { return fmt.Errorf("%T is not a message", m) }

// encoded reports whether a request's messages are protocol buffers, which may go
// through as they are; JSON may not.
func encoded(h http.Header) bool { return !strings.Contains(h.Get("Content-Type"), "json") }

// sender is a stream of answers.
func sender[Out any](stream *connect.ServerStream[Out]) broker.Sender[Out] {
	if conn := stream.Conn(); encoded(conn.RequestHeader()) {
		return frameSender[Out]{stream, conn}
	}
	return stream
}

type frameSender[Out any] struct {
	*connect.ServerStream[Out]
	conn connect.StreamingHandlerConn
}

// SendFrame implements broker.FrameSender.
func (s frameSender[Out]) SendFrame(f *relay.Frame) error { return s.conn.Send(f) }

// receiver is a stream of requests.
func receiver[In any](stream *connect.ClientStream[In]) broker.Receiver[In] {
	if conn := stream.Conn(); encoded(conn.RequestHeader()) {
		return frameReceiver[In]{messages[In]{stream}, conn}
	}
	return messages[In]{stream}
}

type frameReceiver[In any] struct {
	messages[In]
	conn connect.StreamingHandlerConn
}

// ReceiveFrame implements broker.FrameReceiver.
func (r frameReceiver[In]) ReceiveFrame(f *relay.Frame) error { return r.conn.Receive(f) }

// both is a stream both ways.
func both[In, Out any](stream *connect.BidiStream[In, Out], controller *http.ResponseController) broker.BidiStream[In, Out] {
	b := bidi[In, Out]{stream, controller}
	if conn := stream.Conn(); encoded(conn.RequestHeader()) {
		return frameBidi[In, Out]{b, conn}
	}
	return b
}

type frameBidi[In, Out any] struct {
	bidi[In, Out]
	conn connect.StreamingHandlerConn
}

// SendFrame implements broker.FrameSender.
func (b frameBidi[In, Out]) SendFrame(f *relay.Frame) error { return b.conn.Send(f) }

// ReceiveFrame implements broker.FrameReceiver.
func (b frameBidi[In, Out]) ReceiveFrame(f *relay.Frame) error { return b.conn.Receive(f) }
