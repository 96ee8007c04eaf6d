package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// Receiver is the client's side of a stream of requests. Receive returns io.EOF
// after the last one.
type Receiver[In any] interface {
	Receive() (*In, error)
}

// Sender is the client's side of a stream of answers. A message that was sent
// may be overwritten by the caller.
type Sender[Out any] interface {
	Send(*Out) error
}

// BidiStream is the client's side of a stream both ways.
type BidiStream[In, Out any] interface {
	Receiver[In]
	Sender[Out]
	// StopReceiving makes a Receive under way, and every later one, return an
	// error. It may be called from another goroutine.
	StopReceiving()
}

// FrameReceiver is implemented by Receivers that can give messages as they came.
type FrameReceiver interface {
	ReceiveFrame(*relay.Frame) error
}

// FrameSender is implemented by Senders that can take messages as they came.
type FrameSender interface {
	SendFrame(*relay.Frame) error
}

// client makes the methods of the contract plain functions.
type client = providerv1.ProviderServiceClient

// forwardOne passes one call on to the sandbox that ref, a field of req, names.
func forwardOne[Req, Res any](ctx context.Context, s *Service, ref **providerv1.SandboxRef, req Req,
	call func(client, context.Context, Req, ...grpc.CallOption) (Res, error),
) (Res, error) {
	var res Res
	l, err := s.use(ctx, *ref)
	if err != nil {
		return res, err
	}
	*ref = l.ref
	res, err = call(l, ctx, req)
	return res, l.close(ctx, err)
}

// forwardDown passes a call on whose answer is a stream.
func forwardDown[Req, Out any](ctx context.Context, s *Service, kind telemetry.StreamKind, ref **providerv1.SandboxRef, req Req, out Sender[Out],
	call func(client, context.Context, Req, ...grpc.CallOption) (grpc.ServerStreamingClient[Out], error),
) error {
	l, err := s.use(ctx, *ref)
	if err != nil {
		return err
	}
	*ref = l.ref
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // frees the provider's side if the client left
	up, err := call(l, ctx, req, relay.Call())
	if err == nil {
		flow := l.flow(ctx, kind)
		defer flow.Close()
		err = copyDown(ctx, up, out, flow)
	}
	return l.close(ctx, err)
}

// reusing is implemented by streams that can receive into a message again and
// again; every grpc.ClientStream is one.
type reusing interface{ RecvMsg(m any) error }

// copyDown sends every answer on, as it came if the client's side can take it.
// Otherwise one message serves for all: Send has encoded it when it returns.
func copyDown[Out any](ctx context.Context, up reusing, out Sender[Out], flow *flow) error {
	if frames, ok := out.(FrameSender); ok {
		var f relay.Frame
		defer f.Free()
		return copyEach(ctx, func() error { return up.RecvMsg(&f) }, func() error {
			flow.downFrame(&f)
			return frames.SendFrame(&f)
		})
	}
	msg := new(Out)
	return copyEach(ctx, func() error { return up.RecvMsg(msg) }, func() error {
		flow.down(msg)
		return out.Send(msg)
	})
}

func copyEach(ctx context.Context, receive, send func() error) error {
	for {
		err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(); err != nil {
			return clientGone(ctx, err)
		}
	}
}

// clientGone is an error of the client's connection, which the client will not
// see.
func clientGone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CANCELED, "the client left: %w", err)
}

// upstream is the provider's side of a stream of requests.
type upstream[In any] interface {
	Send(*In) error
	SendMsg(m any) error
}

// copyUp sends every request on until the client ends its side or a send fails;
// the provider's reason for that comes with its answer. Requests that hold nothing
// but the field bulk, which no capability guards, go as they came if the client's
// side can give them so.
func copyUp[In any](in Receiver[In], up upstream[In], bulk []protowire.Number, flow *flow) error {
	frames, _ := in.(FrameReceiver)
	var f relay.Frame
	defer f.Free()
	for {
		var msg *In
		var err error
		if frames == nil {
			msg, err = in.Receive()
		} else if err = frames.ReceiveFrame(&f); err == nil && !f.Bulk(bulk...) {
			msg, err = decoded[In](&f)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if msg != nil {
			flow.up(msg)
			err = up.Send(msg)
		} else {
			flow.In(f.Len())
			err = up.SendMsg(&f)
		}
		if err != nil {
			return nil // the answer says why
		}
	}
}

func decoded[In any](f *relay.Frame) (*In, error) {
	msg := new(In)
	m, ok := any(msg).(proto.Message)
	if !ok {
		return nil, fmt.Errorf("relay: %T is not a message", msg)
	}
	return msg, f.Decode(m)
}

// Where the bulk of a stream's requests is: the numbers of the fields from the
// request down.
var (
	bulkOfWrite  = []protowire.Number{2}       // WriteFileRequest.data
	bulkOfUpload = []protowire.Number{2}       // UploadArchiveRequest.data
	bulkOfAttach = []protowire.Number{1, 2, 2} // AttachExecRequest.input, ExecInput.stdin, ExecStdin.data
	bulkOfTunnel = []protowire.Number{1, 3}    // OpenTunnelRequest.frame, TunnelFrame.data
)

// forwardUp passes a stream of requests on; first has been read already and
// holds the reference that names the sandbox.
func forwardUp[In, Out any](ctx context.Context, s *Service, kind telemetry.StreamKind, ref **providerv1.SandboxRef, first *In, in Receiver[In], bulk []protowire.Number,
	call func(client, context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[In, Out], error),
) (*Out, error) {
	l, err := s.use(ctx, *ref)
	if err != nil {
		return nil, err
	}
	*ref = l.ref
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a client that breaks off must not look like one that is done
	up, err := call(l, ctx, relay.Call())
	if err != nil {
		return nil, l.close(ctx, err)
	}
	flow := l.flow(ctx, kind)
	defer flow.Close()
	var out *Out
	flow.up(first)
	if err = up.Send(first); err == nil {
		err = copyUp(in, up, bulk, flow)
	} else if errors.Is(err, io.EOF) {
		err = nil // the answer says why
	}
	if err != nil {
		err = clientGone(ctx, err)
	} else {
		out, err = up.CloseAndRecv()
	}
	return out, l.close(ctx, err)
}

// forwardBidi passes a stream both ways on; first has been read already and ref
// points into it. Nothing is kept back: a slow reader on either side stops the
// writer on the other through the flow control of both connections.
func forwardBidi[In, Out any](ctx context.Context, s *Service, kind telemetry.StreamKind, ref **providerv1.SandboxRef, first *In, down BidiStream[In, Out], bulk []protowire.Number,
	call func(client, context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[In, Out], error),
) error {
	l, err := s.use(ctx, *ref)
	if err != nil {
		return err
	}
	*ref = l.ref
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := call(l, ctx, relay.Call())
	if err != nil {
		return l.close(ctx, err)
	}
	flow := l.flow(ctx, kind)
	defer flow.Close()
	flow.up(first)
	if err := up.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return l.close(ctx, err)
	}
	var upward sync.WaitGroup
	upward.Go(func() {
		if err := copyUp(down, up, bulk, flow); err != nil {
			cancel() // broken off, not ended
			return
		}
		_ = up.CloseSend() // never fails; see grpc.ClientStream
	})
	err = copyDown(ctx, up, down, flow)
	down.StopReceiving()
	upward.Wait()
	return l.close(ctx, err)
}
