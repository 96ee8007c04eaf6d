package telemetry_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// document is where the metrics are listed.
const document = "../../docs/howto/observe.md"

var update = flag.Bool("update", false, "write the list of metrics into the documentation")

// TestDocumented: the documentation lists the metrics as they are defined.
func TestDocumented(t *testing.T) {
	var want strings.Builder
	want.WriteString("| metric | kind | labels | what it says |\n|---|---|---|---|\n")
	for _, d := range telemetry.Definitions() {
		labels := "-"
		if len(d.Labels) > 0 {
			labels = "`" + strings.Join(d.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", d.Prometheus(), d.Kind, labels, d.Help)
	}
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics: go test ./broker/telemetry -update -->\n", "<!-- end of metrics -->"
	before, rest, ok1 := strings.Cut(string(data), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no list of metrics between %q and %q", document, begin, end)
	}
	if *update {
		if err := os.WriteFile(document, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want.String(), got); d != "" {
		t.Errorf("%s is not current, run go test ./broker/telemetry -update (-want +got):\n%s", document, d)
	}
}

// series are the label sets of a metric, with the values of counters and gauges
// and the counts of histograms.
type series map[string]int64

// collect reads all metrics, and checks each against its definition.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]series {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil && !errors.Is(err, errLook) {
		t.Fatal(err)
	}
	defined := map[string]telemetry.Definition{}
	for _, d := range telemetry.Definitions() {
		defined[d.Name] = d
	}
	out := map[string]series{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			d, ok := defined[m.Name]
			if !ok || d.Unit != m.Unit || d.Help != m.Description {
				t.Errorf("metric %q has unit %q and help %q; defined is %+v", m.Name, m.Unit, m.Description, d)
			}
			kind := telemetry.Gauge
			got := series{}
			add := func(labels []string, n int64) {
				got[strings.Join(labels, " ")] = n
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				if data.IsMonotonic {
					kind = telemetry.Counter
				}
				for _, p := range data.DataPoints {
					add(labels(t, d, p.Attributes.ToSlice()), p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(labels(t, d, p.Attributes.ToSlice()), p.Value)
				}
			case metricdata.Histogram[float64]:
				kind = telemetry.Histogram
				for _, p := range data.DataPoints {
					add(labels(t, d, p.Attributes.ToSlice()), int64(p.Count))
				}
			default:
				t.Errorf("metric %q is a %T", m.Name, m.Data)
			}
			if kind != d.Kind {
				t.Errorf("metric %q is a %s, defined as %s", m.Name, kind, d.Kind)
			}
			out[m.Name] = got
		}
	}
	return out
}

var errLook = errors.New("cannot look")

func TestEveryMetricIsAsDefined(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	defer provider.Shutdown(context.Background())
	m, err := telemetry.New(provider)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	limited := fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "slow down, %s", "sbx_secret")
	m.Operation(ctx, "fake", telemetry.Create, time.Second, nil)
	m.Operation(ctx, "fake", telemetry.Create, time.Second, limited)
	m.OrphanDeleted(ctx, "fake")
	m.Call(ctx, "fake", "/sandbar.provider.v1.ProviderService/GetSandbox", time.Millisecond, limited)
	m.Open(ctx, "fake", "/sandbar.provider.v1.ProviderService/AttachExec", nil)
	m.RPC(ctx, "/sandbar.broker.v1.SandboxService/GetSandbox")(nil)
	m.RPC(ctx, "/sandbar.broker.v1.SandboxService/GetSandbox")
	s := m.Stream(ctx, "fake", telemetry.ExecStream)
	s.In(3)
	s.Out(4)
	s.Out(5)
	s.Ended(providerv1.ExitCause_EXIT_CAUSE_TASK)
	s.Ended(providerv1.ExitCause(77)) // a plugin from the future
	m.Stream(ctx, "fake", telemetry.ExecStream).Close()
	m.Webhook(ctx, "ok", time.Second)
	m.Webhook(ctx, "timeout", time.Second)
	stop, err := m.Observe(func(context.Context) (telemetry.Observation, error) {
		return telemetry.Observation{
			Version: "v1",
			Sandboxes: map[string]map[providerv1.SandboxState]int{"fake": {
				providerv1.SandboxState_SANDBOX_STATE_RUNNING: 2, providerv1.SandboxState_SANDBOX_STATE_UNKNOWN: 1, 99: 3,
			}},
			Circuits: map[string]string{"fake": "half_open"},
			Plugins:  []telemetry.Plugin{{Provider: "fake", State: "ready", Starts: 4}},
			Queues:   map[string]int{"due": 5},
		}, errLook // what was seen is told all the same
	})
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	want := map[string]series{
		"sandbar.operations":             {"provider=fake operation=create outcome=ok": 1, "provider=fake operation=create outcome=RATE_LIMITED": 1},
		"sandbar.operation.duration":     {"provider=fake operation=create outcome=ok": 1, "provider=fake operation=create outcome=failed": 1},
		"sandbar.sandboxes":              {"provider=fake state=RUNNING": 2, "provider=fake state=UNKNOWN": 4},
		"sandbar.orphans.deleted":        {"provider=fake": 1},
		"sandbar.provider.calls":         {"provider=fake method=GetSandbox outcome=RATE_LIMITED": 1, "provider=fake method=AttachExec outcome=ok": 1},
		"sandbar.provider.call.duration": {"provider=fake method=GetSandbox outcome=failed": 1},
		"sandbar.provider.circuit":       {"provider=fake state=closed": 0, "provider=fake state=open": 0, "provider=fake state=half_open": 1},
		"sandbar.plugin.state": {
			"provider=fake state=stopped": 0, "provider=fake state=starting": 0, "provider=fake state=configuring": 0, "provider=fake state=ready": 1,
			"provider=fake state=degraded": 0, "provider=fake state=backoff": 0, "provider=fake state=quarantined": 0,
		},
		"sandbar.plugin.starts":            {"provider=fake": 4},
		"sandbar.execs":                    {"provider=fake cause=task": 1, "provider=fake cause=unknown": 1},
		"sandbar.exec.attached.duration":   {"provider=fake": 2},
		"sandbar.streams.open":             {"provider=fake stream=exec": 1},
		"sandbar.stream.transferred":       {"provider=fake stream=exec direction=in": 3, "provider=fake stream=exec direction=out": 9},
		"sandbar.rpc.calls":                {"method=GetSandbox outcome=ok": 1},
		"sandbar.rpc.duration":             {"method=GetSandbox outcome=ok": 1},
		"sandbar.rpc.open":                 {"method=GetSandbox": 1},
		"sandbar.queue.depth":              {"queue=due": 5},
		"sandbar.webhook.attempts":         {"outcome=ok": 1, "outcome=timeout": 1},
		"sandbar.webhook.attempt.duration": {"outcome=ok": 1, "outcome=failed": 1},
		"sandbar.build.info":               {"version=v1": 1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, d := range telemetry.Definitions() {
		if len(got[d.Name]) == 0 {
			t.Errorf("metric %q is defined and nothing counts it", d.Name)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left := collect(t, reader); slices.Contains(slices.Collect(maps.Keys(left)), "sandbar.build.info") {
		t.Error("it still looks after it was told to stop")
	}
}

// Reasons that no contract defines do not become series.
func TestOutcomeIsBounded(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "x"), "RATE_LIMITED"},
		{fault.New(providerv1.ErrorReason(4711), "x"), "UNKNOWN"},
		{context.Canceled, "CANCELED"},
		{context.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	} {
		if got := telemetry.Outcome(tc.err); got != tc.want {
			t.Errorf("outcome of %v is %q, want %q", tc.err, got, tc.want)
		}
	}
}

// The numbers of the states of plugins in the API are in the order of the words.
func TestPluginStates(t *testing.T) {
	for n, name := range brokerv1.PluginState_name {
		want := strings.ToLower(strings.TrimPrefix(name, "PLUGIN_STATE_"))
		if want == "unspecified" {
			want = ""
		}
		if got := telemetry.PluginState(brokerv1.PluginState(n)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
