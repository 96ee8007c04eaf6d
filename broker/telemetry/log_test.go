package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

func TestLogsNameTheirTrace(t *testing.T) {
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 15: 2}, SpanID: trace.SpanID{3, 7: 4},
	}))
	var out bytes.Buffer
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(&out, nil))).With(telemetry.KeyProvider, "fake")
	for _, tc := range []struct {
		write func()
		want  map[string]any
	}{
		{func() { log.InfoContext(ctx, "in", "sandbox_id", "sbx_1") }, map[string]any{
			"msg": "in", "provider": "fake", "sandbox_id": "sbx_1",
			"trace_id": "01000000000000000000000000000002", "span_id": "0300000000000004",
		}},
		{func() { log.InfoContext(t.Context(), "outside") }, map[string]any{"msg": "outside", "provider": "fake"}},
	} {
		out.Reset()
		tc.write()
		got := map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		delete(got, "time")
		delete(got, "level")
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}
}
