package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sandbar-dev/sandbar/proto/tracing"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// lastSpans bounds how long a command that has ended tries to send its spans.
const lastSpans = 2 * time.Second

// untraced are the commands that make no calls as a user's.
var untraced = []string{"serve", "version", "completion", "__complete", "conformance", "simulator"}

// traced runs a command as a trace of its own, or as part of the one in
// TRACEPARENT, if the environment names a collector. Without one it costs nothing.
func (a *app) traced(ctx context.Context, command string, run func(context.Context) error) (err error) {
	endpoint := a.getenv(tracing.EnvEndpoint)
	first, _, _ := strings.Cut(strings.TrimPrefix(command, "sandbar "), " ")
	if endpoint == "" || slices.Contains(untraced, first) {
		return run(ctx)
	}
	if p := cmp.Or(a.getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), a.getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); p != "" && p != "http/protobuf" {
		a.note("nothing is traced: OTEL_EXPORTER_OTLP_PROTOCOL is %q: want http/protobuf", p)
		return run(ctx)
	}
	tracer, err := tracing.New(ctx, tracing.Options{Service: "sandbar-cli", Version: a.version, Endpoint: endpoint, Sample: 1, Once: true})
	if err != nil {
		a.note("nothing is traced: %v", err)
		return run(ctx)
	}
	a.tracer = tracer
	ctx = span.Extract(ctx, propagation.MapCarrier{"traceparent": a.getenv("TRACEPARENT")})
	ctx, sp := tracer.Start(ctx, command)
	defer func() {
		a.close() // ends the spans of streams that were left open
		span.End(sp, err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := tracer.Shutdown(ctx); err != nil {
			a.note("spans are lost: %v", err)
		}
	}()
	return run(ctx)
}
