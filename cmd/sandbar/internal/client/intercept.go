package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// interceptor authenticates requests and turns Connect errors into faults.
type interceptor struct {
	address Address
	options Options
	spans   *spans
}

func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		i.header(req.Header())
		ctx, sp := i.spans.begin(ctx, req.Spec().Procedure, req.Header())
		res, err := next(ctx, req)
		if err != nil {
			err = i.fault(ctx, err)
			span.End(sp, err)
			return nil, err
		}
		sp.End()
		return res, nil
	}
}

func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		header := make(http.Header)
		ctx, sp := i.spans.begin(ctx, spec.Procedure, header)
		i.spans.keep(sp)
		conn := next(ctx, spec)
		maps.Copy(conn.RequestHeader(), header)
		i.header(conn.RequestHeader())
		if spec.StreamType == connect.StreamTypeBidi {
			// The HTTP/2 client does not see the context end while it waits for more
			// of the request. An upload must not seem whole, and so is not ended so.
			context.AfterFunc(ctx, func() { _ = conn.CloseRequest() })
		}
		return &streamConn{StreamingClientConn: conn, ctx: ctx, interceptor: i, span: sp}
	}
}

// WrapStreamingHandler is there for the interface; a client handles nothing.
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (i *interceptor) header(h interface{ Set(key, value string) }) {
	if i.options.APIKey != "" {
		h.Set("Authorization", "Bearer "+i.options.APIKey)
	}
	if i.options.Tenant != "" {
		h.Set(authz.TenantHeader, i.options.Tenant)
	}
	h.Set("User-Agent", "sandbar/"+i.options.Version)
}

// streamConn converts the errors of one stream. It holds the stream's context
// because a connection is bound to it anyhow.
type streamConn struct {
	connect.StreamingClientConn
	ctx         context.Context //nolint:containedctx // the life of the stream
	interceptor *interceptor
	span        trace.Span
}

func (c *streamConn) Send(msg any) error {
	return c.interceptor.fault(c.ctx, c.StreamingClientConn.Send(msg))
}

func (c *streamConn) Receive(msg any) error {
	err := c.interceptor.fault(c.ctx, c.StreamingClientConn.Receive(msg))
	switch {
	case errors.Is(err, io.EOF):
		c.interceptor.spans.end(c.span, nil)
	case err != nil:
		c.interceptor.spans.end(c.span, err)
	}
	return err
}

// fault converts an error of Connect. An end of stream stays io.EOF, and a
// context that ended wins over whatever the transport made of it.
func (i *interceptor) fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && connect.CodeOf(err) == connect.CodeUnknown {
		return io.EOF
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(ctx.Err(), context.Canceled) {
		return cause
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fault.From(err)
	}
	var details []any
	for _, d := range ce.Details() {
		if msg, derr := d.Value(); derr == nil {
			details = append(details, msg)
		}
	}
	f := fault.FromDetails(codes.Code(ce.Code()), ce.Message(), details)
	if connect.IsWireError(err) {
		return f
	}
	code := ce.Code()
	if code == connect.CodeCanceled && ctx.Err() == nil {
		// The HTTP client says so of a connection that was reset.
		code = connect.CodeUnknown
	}
	switch code {
	case connect.CodeUnavailable:
		f.Message = fmt.Sprintf("cannot reach the broker at %s: %s", i.address, reasonOnly(ce.Message()))
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeInvalidArgument, connect.CodeAborted:
		// The answer was cut short, or is none of ours; the broker did not say it.
		f = fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
			"the connection to the broker at %s broke: %s", i.address, ce.Message())
	}
	return f
}

// reasonOnly drops the repetition of the address that the dialer puts before
// the reason.
func reasonOnly(message string) string {
	if i := strings.LastIndex(message, "connect: "); i >= 0 {
		return message[i+len("connect: "):]
	}
	return message
}
