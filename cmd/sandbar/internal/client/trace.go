package client

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/proto/tracing"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// spans makes a span of each call. Its zero value makes none.
type spans struct {
	tracer *tracing.Tracer

	mu   sync.Mutex
	open map[trace.Span]bool // of streams
}

// begin begins the span of a call and writes its context into the header.
func (s *spans) begin(ctx context.Context, procedure string, header http.Header) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	name := strings.TrimPrefix(procedure, "/")
	ctx, sp := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), span.RPC("connectrpc", name))
	span.Inject(ctx, propagation.HeaderCarrier(header))
	return ctx, sp
}

// keep remembers the span of a stream, whose reader may leave without reading to
// the end.
func (s *spans) keep(sp trace.Span) {
	if s.tracer == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[trace.Span]bool)
	}
	s.open[sp] = true
}

// end ends the span of a stream, once.
func (s *spans) end(sp trace.Span, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[sp] {
		delete(s.open, sp)
		span.End(sp, err)
	}
}

// endAll ends the spans of all streams that were left.
func (s *spans) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sp := range s.open {
		span.End(sp, nil)
	}
	clear(s.open)
}
