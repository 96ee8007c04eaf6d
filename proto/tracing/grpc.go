package tracing

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// traced reports whether calls of a method are part of traces: those of the
// contract are, health checks and go-plugin's own are not. On either side only what
// belongs to a trace already is.
func traced(ctx context.Context, method string) bool {
	return strings.HasPrefix(method, "/"+providerv1.ProviderService_ServiceDesc.ServiceName+"/") &&
		trace.SpanContextFromContext(ctx).IsValid()
}

func name(method string) string { return strings.TrimPrefix(method, "/") }

// md lets gRPC's metadata carry the context of a trace.
type md metadata.MD

// Get implements span.Carrier.
func (c md) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set implements span.Carrier.
func (c md) Set(key, value string) { metadata.MD(c).Set(key, value) }

// Keys implements span.Carrier.
func (c md) Keys() []string {
	out := make([]string, 0, len(c))
	for k := range c {
		out = append(out, k)
	}
	return out
}

// outgoing adds the context of a trace to a call's metadata.
func outgoing(ctx context.Context) context.Context {
	out, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		out = metadata.MD{}
	} // else it is a copy
	span.Inject(ctx, md(out))
	return metadata.NewOutgoingContext(ctx, out)
}

// DialOptions make a span of each call to a plugin.
func (t *Tracer) DialOptions() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(t.call), grpc.WithChainStreamInterceptor(t.open)}
}

func (t *Tracer) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !traced(ctx, method) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	ctx, sp := t.tracer.Start(ctx, name(method), trace.WithSpanKind(trace.SpanKindClient), span.RPC("grpc", name(method)), trace.WithAttributes(span.About(req)...))
	err := invoke(outgoing(ctx), method, req, reply, cc, opts...)
	span.End(sp, err)
	return err
}

func (t *Tracer) open(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !traced(ctx, method) {
		return open(ctx, desc, cc, method, opts...)
	}
	life := ctx
	ctx, sp := t.tracer.Start(ctx, name(method), trace.WithSpanKind(trace.SpanKindClient), span.RPC("grpc", name(method)))
	s, err := open(outgoing(ctx), desc, cc, method, opts...)
	if err != nil {
		span.End(sp, err)
		return nil, err
	}
	out := &clientStream{ClientStream: s, answers: desc.ServerStreams, span: sp}
	// A reader that leaves before the end cancels, and the span ends with that. The
	// stream's own context ends with every stream, however it ended.
	context.AfterFunc(life, func() { out.end(life.Err()) })
	return out, nil
}

// clientStream ends its span with the stream.
type clientStream struct {
	grpc.ClientStream
	answers bool
	span    trace.Span
	once    sync.Once
}

func (s *clientStream) end(err error) {
	s.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		span.End(s.span, err)
	})
}

// RecvMsg sees the end: an error, or the one answer of a stream of requests.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil || !s.answers {
		s.end(err)
	}
	return err
}

// ServerOptions make a span of each call that a plugin serves and that belongs to
// a trace. The driver's context is within it.
func (t *Tracer) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(t.serve), grpc.ChainStreamInterceptor(t.serveStream)}
}

func incoming(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	return span.Extract(ctx, md(in))
}

func (t *Tracer) serve(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
	ctx = incoming(ctx)
	if !traced(ctx, info.FullMethod) {
		return handler(ctx, req)
	}
	ctx, sp := t.tracer.Start(ctx, name(info.FullMethod), trace.WithSpanKind(trace.SpanKindServer),
		span.RPC("grpc", name(info.FullMethod)), trace.WithAttributes(span.About(req)...))
	err = span.ErrAbandoned // if the handler panics
	defer func() { span.End(sp, err) }()
	return handler(ctx, req)
}

func (t *Tracer) serveStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := incoming(ss.Context())
	if !traced(ctx, info.FullMethod) {
		return handler(srv, ss)
	}
	ctx, sp := t.tracer.Start(ctx, name(info.FullMethod), trace.WithSpanKind(trace.SpanKindServer), span.RPC("grpc", name(info.FullMethod)))
	err = span.ErrAbandoned // if the handler panics
	defer func() { span.End(sp, err) }()
	return handler(srv, &serverStream{ServerStream: ss, ctx: ctx})
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // of the stream
}

// Context is within the span.
func (s *serverStream) Context() context.Context { return s.ctx }
