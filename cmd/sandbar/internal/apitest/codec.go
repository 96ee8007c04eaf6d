package apitest

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// codec sends faults the way the API does.
type codec struct{ broker *Broker }

func (c codec) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c.broker.mu.Lock()
		c.broker.keys = append(c.broker.keys, req.Header().Get("Authorization"))
		c.broker.mu.Unlock()
		res, err := next(ctx, req)
		return res, Encode(err)
	}
}

func (codec) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (codec) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error { return Encode(next(ctx, conn)) }
}

// Encode returns an error as the API sends it.
func Encode(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	out := connect.NewError(connect.Code(f.Code()), errors.New(f.Message))
	for _, d := range f.Details() {
		detail, err := connect.NewErrorDetail(d)
		if err != nil {
			return err
		}
		out.AddDetail(detail)
	}
	return out
}
