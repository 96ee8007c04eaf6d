package api

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/tracing"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// observer counts calls and makes a span of each. It sees the service's own errors, before they become
// what goes over the wire.
type observer struct {
	metrics *telemetry.Metrics
	tracer  *tracing.Tracer
}

// begin begins a call that end ends.
func (o observer) begin(ctx context.Context, procedure string, header http.Header) (_ context.Context, end func(error)) {
	name := strings.TrimPrefix(procedure, "/")
	ctx, sp := o.tracer.Start(span.Extract(ctx, propagation.HeaderCarrier(header)), name,
		trace.WithSpanKind(trace.SpanKindServer), span.RPC("connectrpc", name))
	counted := o.metrics.RPC(ctx, procedure)
	return ctx, func(err error) {
		counted(err)
		span.End(sp, err)
	}
}

// panicked is what a call that never returned is counted as.
var panicked error = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "the handler panicked")

func (o observer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		ctx, end := o.begin(ctx, req.Spec().Procedure, req.Header())
		err = panicked
		defer func() { end(err) }()
		res, err = next(ctx, req)
		return res, err
	}
}

func (o observer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		ctx, end := o.begin(ctx, conn.Spec().Procedure, conn.RequestHeader())
		err = panicked
		defer func() { end(err) }()
		err = next(ctx, conn)
		return err
	}
}

func (o observer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
