package observation_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

// scraper reads the metrics of a broker.
type scraper struct {
	t        *testing.T
	url      string
	families map[string]*dto.MetricFamily
}

func newScraper(t *testing.T, b *broker) *scraper {
	t.Helper()
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(b.await("serving metrics")), &line); err != nil {
		t.Fatal(err)
	}
	return &scraper{t: t, url: "http://" + line.Address + "/metrics"}
}

func (s *scraper) scrape() {
	s.t.Helper()
	res, err := http.Get(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if s.families, err = parser.TextToMetricFamilies(res.Body); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("scrape: %s, %v", res.Status, err)
	}
}

// value adds up the series of a metric whose labels are at least those given, such
// as "provider=fake". Of a histogram it is the number of observations.
func (s *scraper) value(name string, labels ...string) float64 {
	s.t.Helper()
	sum := 0.0
	for _, m := range s.families[name].GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && have[l]
		}
		if all {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestMetrics makes real calls and reads the numbers that a Prometheus would.
func TestMetrics(t *testing.T) {
	t.Parallel()
	b := serve(t, "telemetry: {prometheus: {listen: \"127.0.0.1:0\"}}\n")
	s := newScraper(t, b)
	id := b.ok("create", "--name", "a-name-nobody-may-see", "--label", "secret=label-nobody-may-see")
	other := b.ok("create")
	if out := b.ok("exec", id, "--", "sh", "-c", "echo out; echo err >&2"); out != "out" {
		t.Errorf("exec printed %q", out)
	}
	if _, code := b.sandbar("exec", id, "--", "false"); code != 1 {
		t.Errorf("false ended with %d", code)
	}
	b.ok("pause", id)
	b.ok("resume", id)
	b.ok("fork", id)
	b.ok("rm", other)
	if _, code := b.sandbar("get", "sbx_nosuch"); code == 0 {
		t.Error("a sandbox that does not exist is shown")
	}
	s.scrape()
	for _, tc := range []struct {
		want   float64
		metric string
		labels string
	}{
		{2, "sandbar_operations_total", "provider=fake operation=create outcome=ok"},
		{1, "sandbar_operations_total", "provider=fake operation=pause outcome=ok"},
		{1, "sandbar_operations_total", "provider=fake operation=resume outcome=ok"},
		{1, "sandbar_operations_total", "provider=fake operation=fork outcome=ok"},
		{1, "sandbar_operations_total", "provider=fake operation=delete outcome=ok"},
		{6, "sandbar_operations_total", ""},
		{2, "sandbar_operation_duration_seconds", "operation=create outcome=ok"},
		{2, "sandbar_provider_calls_total", "method=CreateSandbox outcome=ok"},
		{2, "sandbar_provider_calls_total", "method=StartExec outcome=ok"},
		{2, "sandbar_provider_calls_total", "method=AttachExec outcome=ok"},
		{2, "sandbar_execs_total", "provider=fake cause=task"},
		{2, "sandbar_exec_attached_duration_seconds", "provider=fake"},
		{0, "sandbar_streams_open", ""},
		{2, "sandbar_sandboxes", "provider=fake state=RUNNING"},
		{2, "sandbar_sandboxes", ""},
		{1, "sandbar_provider_circuit", "provider=fake state=closed"},
		{1, "sandbar_provider_circuit", "provider=fake"},
		{1, "sandbar_plugin_state", "provider=fake state=ready"},
		{1, "sandbar_plugin_starts_total", "provider=fake"},
		{2, "sandbar_rpc_calls_total", "method=CreateSandbox outcome=ok"},
		{1, "sandbar_rpc_calls_total", "method=GetSandbox outcome=SANDBOX_NOT_FOUND"},
		{1, "sandbar_rpc_duration_seconds", "method=ForkSandbox outcome=ok"},
		{0, "sandbar_rpc_open", ""},
		{1, "sandbar_build_info", "version=0.0.0-observed"},
	} {
		if got := s.value(tc.metric, strings.Fields(tc.labels)...); got != tc.want {
			t.Errorf("%s{%s} is %v, want %v", tc.metric, tc.labels, got, tc.want)
		}
	}
	if out := s.value("sandbar_stream_transferred_bytes_total", "stream=exec", "direction=out"); out < 8 || out > 2000 {
		t.Errorf("two commands that print 8 bytes sent %v", out)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if s.value(name) <= 0 {
			t.Errorf("%s is not told", name)
		}
	}
	s.onlyDocumented()
}

// onlyDocumented: there is nothing of Sandbar's that the documentation does not
// list, and nothing in a label that somebody chose.
func (s *scraper) onlyDocumented() {
	s.t.Helper()
	documented := map[string]bool{}
	for _, d := range telemetry.Definitions() {
		documented[d.Prometheus()] = true
	}
	for name, family := range s.families {
		if strings.HasPrefix(name, "sandbar_") && !documented[name] {
			s.t.Errorf("%s is not documented", name)
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "nobody-may-see") || strings.Contains(l.GetValue(), "_") && strings.HasPrefix(l.GetValue(), "sbx") {
					s.t.Errorf("%s tells %s=%s", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// TestMetricsOfACrash: a plugin that is killed is counted.
func TestMetricsOfACrash(t *testing.T) {
	t.Parallel()
	b := serve(t, "telemetry: {prometheus: {listen: \"127.0.0.1:0\"}}\n")
	s := newScraper(t, b)
	b.ok("create")
	var providers []struct{ PID int }
	if err := json.Unmarshal([]byte(b.ok("providers", "--json")), &providers); err != nil || len(providers) != 1 || providers[0].PID == 0 {
		t.Fatalf("providers: %v, %+v", err, providers)
	}
	if err := unix.Kill(providers[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await(`"to":"backoff"`)
	b.ok("create") // waits for the next process
	s.scrape()
	if got := s.value("sandbar_plugin_starts_total", "provider=fake"); got != 2 {
		t.Errorf("%v starts, want 2", got)
	}
	if got := s.value("sandbar_plugin_state", "provider=fake", "state=ready"); got != 1 {
		t.Errorf("the plugin is not ready: %v", s.families["sandbar_plugin_state"])
	}
}
