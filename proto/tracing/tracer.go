package tracing

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// EnvEndpoint is the environment variable of OpenTelemetry that names a collector:
// a base URL, such as http://127.0.0.1:4318. A host sets it for its plugins.
const EnvEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"

// scope names the instrumentation.
const scope = "github.com/sandbar-dev/sandbar/proto/tracing"

// Options of a Tracer.
type Options struct {
	// Service and Version say whose spans they are.
	Service, Version string
	// Endpoint is the base URL of the collector.
	Endpoint string
	// Sample is the share, from 0 to 1, of traces that are recorded among those that
	// begin here. Of those that begin elsewhere, whoever began them decided.
	Sample float64
	// Once makes one attempt to send spans, for a process that should not live on for
	// a collector that is not there.
	Once bool
}

// Tracer makes spans and sends them. Shutdown ends it. A nil Tracer makes none. All
// methods are safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	endpoint string
}

// exportTimeout bounds one attempt to reach a collector. Spans that cannot be sent
// are dropped in the end; they hold nothing up.
const exportTimeout = 5 * time.Second

// delay is how long spans are collected before they are sent.
const delay = time.Second

// New returns a tracer. It connects with the first spans.
func New(ctx context.Context, o Options) (*Tracer, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("endpoint for traces is %q: want a URL such as http://127.0.0.1:4318", o.Endpoint)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("v1/traces").String()), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: !o.Once, InitialInterval: time.Second, MaxInterval: 10 * time.Second, MaxElapsedTime: time.Minute,
		}))
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	return newTracer(o, sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithBatchTimeout(delay))), nil
}

func newTracer(o Options, processor sdktrace.SpanProcessor) *Tracer {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(processor),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))),
		// Without what the SDK would find out by itself, such as the command's
		// arguments.
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer(scope), endpoint: o.Endpoint}
}

// ForPlugin returns the tracer of a plugin: one that sends where the host says in
// the environment, which lookup reads, and that traces what the host traces. It is
// nil if the host says nothing, or nothing sensible.
func ForPlugin(lookup func(string) (string, bool), service, version string) *Tracer {
	endpoint, ok := lookup(EnvEndpoint)
	if !ok {
		return nil
	}
	t, err := New(context.Background(), Options{Service: service, Version: version, Endpoint: endpoint})
	if err != nil {
		return nil // a plugin that cannot be watched still serves
	}
	return t
}

// Endpoint returns where spans go; "" for a nil Tracer.
func (t *Tracer) Endpoint() string {
	if t == nil {
		return ""
	}
	return t.endpoint
}

// Start begins a span within the process, or a trace. The caller ends it, best by
// span.End.
func (t *Tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	return t.tracer.Start(ctx, name, opts...)
}

// Shutdown sends what was not sent, until ctx ends.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}
