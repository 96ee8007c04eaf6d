package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// wireError turns an error into what goes over the wire. It is the one place
// where the broker's errors leave it.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	var ready *connect.Error
	if errors.As(err, &ready) {
		return ready
	}
	f := fault.From(err)
	out := connect.NewError(connect.Code(f.Code()), errors.New(f.Message))
	for _, d := range f.Details() {
		detail, err := connect.NewErrorDetail(d)
		if err != nil { // only for a message that cannot be encoded, and these can
			continue
		}
		out.AddDetail(detail)
	}
	return out
}

// interceptor converts errors and keeps panics from reaching the client as more
// than an internal error. The panic itself goes to the log.
type interceptor struct{ log *slog.Logger }

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		defer func() { i.recovered(ctx, req.Spec(), recover(), &err) }()
		res, err = next(ctx, req)
		return res, wireError(err)
	}
}

func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		defer func() { i.recovered(ctx, conn.Spec(), recover(), &err) }()
		err = next(ctx, conn)
		if ended := credentialEnded(ctx); err != nil && ended != nil {
			err = ended
		}
		return wireError(err)
	}
}

func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i interceptor) recovered(ctx context.Context, spec connect.Spec, r any, err *error) {
	if r == nil {
		return
	}
	if r == http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
		panic(r)
	}
	i.log.ErrorContext(ctx, "request handler panicked", "procedure", spec.Procedure, "panic", r, "stack", stack())
	*err = wireError(fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
		"the broker has a bug: %s failed unexpectedly; its log says more", spec.Procedure))
}
