package observation_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// collector takes spans by OTLP over HTTP.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []span
	more  chan struct{} // closed when there are more spans
}

// span is a span and whose it is.
type span struct {
	*tracev1.Span
	service string
}

func (s span) id() string     { return hex.EncodeToString(s.GetSpanId()) }
func (s span) parent() string { return hex.EncodeToString(s.GetParentSpanId()) }
func (s span) trace() string  { return hex.EncodeToString(s.GetTraceId()) }
func (s span) title() string  { return s.service + ": " + s.GetName() }

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{more: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collectorv1.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.take(&req)
		answer, _ := proto.Marshal(&collectorv1.ExportTraceServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(req *collectorv1.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, s := range r.GetScopeSpans() {
			for _, sp := range s.GetSpans() {
				c.spans = append(c.spans, span{sp, service})
			}
		}
	}
	close(c.more)
	c.more = make(chan struct{})
}

// await returns all spans once those that are wanted are there.
func (c *collector) await(t *testing.T, enough func([]span) bool) []span {
	t.Helper()
	limit := time.After(patience)
	for {
		c.mu.Lock()
		all, more := slices.Clone(c.spans), c.more
		c.mu.Unlock()
		if enough(all) {
			return all
		}
		select {
		case <-more:
		case <-limit:
			t.Fatalf("the spans that came are not those that are wanted:\n%s", tree(all))
		}
	}
}

// tree draws spans below their parents.
func tree(all []span) string {
	var out strings.Builder
	var below func(parent string, depth int)
	below = func(parent string, depth int) {
		for _, s := range all {
			if s.parent() == parent {
				fmt.Fprintf(&out, "%s%s\n", strings.Repeat("  ", depth), s.title())
				below(s.id(), depth+1)
			}
		}
	}
	below("", 0)
	fmt.Fprintf(&out, "of %d spans\n", len(all))
	return out.String()
}

// path returns the titles from the root down to a span.
func path(all []span, s span) []string {
	for i := range all {
		if s.parent() != "" && all[i].id() == s.parent() {
			return append(path(all, all[i]), s.title())
		}
	}
	if s.parent() != "" {
		return []string{"(lost)", s.title()}
	}
	return []string{s.title()}
}

func find(all []span, title string) (span, bool) {
	i := slices.IndexFunc(all, func(s span) bool { return s.title() == title })
	if i < 0 {
		return span{}, false
	}
	return all[i], true
}

const (
	create = "CreateSandbox"
	attach = "AttachExec"

	brokerAPI = "sandbar.broker.v1.SandboxService/"
	contract  = "sandbar.provider.v1.ProviderService/"
)

// TestOneTrace: a command of the CLI is one trace, through the broker and into the
// plugin, and nothing in it tells what the command was about.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	b := serve(t, fmt.Sprintf("telemetry: {traces: {endpoint: %q}}\n", c.URL))
	b.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL}
	const secret = "hush-hush"
	out := b.ok("run", "--env", "TOKEN="+secret, "--label", "l="+secret, "--", "sh", "-c", "echo "+secret+"; cat /"+secret+" || true")
	if !strings.Contains(out, secret) {
		t.Fatalf("the command printed %q", out)
	}
	want := []string{"sandbar-provider-fake: " + contract + create, "sandbar-provider-fake: " + contract + attach, "sandbar-cli: sandbar run"}
	all := c.await(t, func(all []span) bool {
		for _, title := range want {
			if _, ok := find(all, title); !ok {
				return false
			}
		}
		for _, s := range all { // whole, up to the root
			if path(all, s)[0] == "(lost)" {
				return false
			}
		}
		return true
	})
	for _, method := range []string{create, attach} {
		s, _ := find(all, "sandbar-provider-fake: "+contract+method)
		chain := []string{
			"sandbar-cli: sandbar run", "sandbar-cli: " + brokerAPI + method, "sandbar: " + brokerAPI + method,
			"sandbar: " + contract + method, "sandbar-provider-fake: " + contract + method,
		}
		if got := path(all, s); !slices.Equal(got, chain) {
			t.Errorf("%s came by\n%q, want\n%q", method, got, chain)
		}
	}
	root, _ := find(all, "sandbar-cli: sandbar run")
	for _, s := range all {
		if s.trace() != root.trace() {
			t.Errorf("%s is in another trace", s.title())
		}
		if text := prototext.Format(s.Span); strings.Contains(text, secret) || strings.Contains(text, "TOKEN") || strings.Contains(text, b.dir) {
			t.Errorf("%s tells too much: %s", s.title(), text)
		}
		if s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR {
			t.Errorf("%s failed: %s", s.title(), prototext.Format(s.Span))
		}
	}
	if s, _ := find(all, "sandbar: "+brokerAPI+create); !strings.HasPrefix(attribute(s, "sandbar.sandbox_id"), "sbx_") || attribute(s, "sandbar.provider") != "fake" {
		t.Errorf("the broker's span is about nothing: %s", prototext.Format(s.Span))
	}
}

func attribute(s span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// TestTraceOfAnError: a span tells the reason of an error and nothing of its words.
func TestTraceOfAnError(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	b := serve(t, fmt.Sprintf("telemetry: {traces: {endpoint: %q}}\n", c.URL))
	b.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	id := b.ok("create")
	if _, code := b.sandbar("cp", id+":/no-such-file", b.dir+"/x"); code == 0 {
		t.Fatal("a file that does not exist was copied")
	}
	all := c.await(t, func(all []span) bool {
		return slices.ContainsFunc(all, func(s span) bool {
			return s.service == "sandbar-provider-fake" && s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR
		})
	})
	for _, s := range all {
		if s.trace() != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is not in the trace that the environment names", s.title())
		}
		if text := prototext.Format(s.Span); strings.Contains(text, "no-such-file") {
			t.Errorf("%s tells too much: %s", s.title(), text)
		}
		if s.service == "sandbar-provider-fake" && s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR && attribute(s, "error.type") != "FILE_NOT_FOUND" {
			t.Errorf("it failed with %s", prototext.Format(s.Span))
		}
	}
}

// TestUntraced: without an endpoint nothing is sent, and nothing waits for one that
// is not there.
func TestUntraced(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	b := serve(t, "")
	b.ok("run", "--", "true")
	b.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}
	b.ok("run", "--", "true")
	b.stop()
	if len(c.spans) > 0 {
		t.Errorf("spans were sent:\n%s", tree(c.spans))
	}
}
