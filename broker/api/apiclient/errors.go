package apiclient

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// FaultFromConnect returns the fault that a broker sent, or the nearest one for
// an error of the connection itself, whose cause errors.Is then still finds.
// FaultFromConnect(nil) is nil.
func FaultFromConnect(err error) *fault.Error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fault.From(err)
	}
	var details []any
	for _, d := range ce.Details() {
		if msg, err := d.Value(); err == nil {
			details = append(details, msg)
		}
	}
	f := fault.FromDetails(codes.Code(ce.Code()), ce.Message(), details)
	if f.Wire {
		return f
	}
	return fault.New(f.Reason, "%w", ce)
}

// interceptor adds the key and converts errors.
type interceptor struct{ key string }

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		i.authorize(req.Header())
		res, err := next(ctx, req)
		if err != nil {
			return nil, FaultFromConnect(err)
		}
		return res, nil
	}
}

func (i interceptor) authorize(h interface{ Set(key, value string) }) {
	if i.key != "" {
		h.Set("Authorization", "Bearer "+i.key)
	}
}

func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		i.authorize(conn.RequestHeader())
		return streamConn{conn}
	}
}

func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// streamConn converts the errors of a stream; io.EOF stays what it is.
type streamConn struct{ connect.StreamingClientConn }

func (c streamConn) Send(msg any) error { return converted(c.StreamingClientConn.Send(msg)) }

func (c streamConn) Receive(msg any) error { return converted(c.StreamingClientConn.Receive(msg)) }

func (c streamConn) CloseRequest() error { return converted(c.StreamingClientConn.CloseRequest()) }

func (c streamConn) CloseResponse() error { return converted(c.StreamingClientConn.CloseResponse()) }

func converted(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return FaultFromConnect(err)
}
