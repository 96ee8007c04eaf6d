package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func wantReason(tb testing.TB, err error, want providerv1.ErrorReason) *fault.Error {
	tb.Helper()
	got := fault.From(err)
	if got == nil || got.Reason != want || !got.Wire {
		tb.Fatalf("got %v (%+v), want %v from the wire", err, got, want)
	}
	return got
}

// logBuffer is a log that tests read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestPanicAnswersOneCallAndKeepsServing(t *testing.T) {
	d, logs := newTiny("egress.deny"), &logBuffer{}
	client, _ := serveDriver(t, d, sdk.Options{Configured: true, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	d.hook = func(_ context.Context, method string) error {
		if method == "CreateSandbox" {
			panic("boom")
		}
		return nil
	}
	var hashes []string
	for range 2 {
		_, err := client.CreateSandbox(within(t, patience), createRequest("sbx_1"))
		got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
		if strings.Contains(err.Error(), "boom") || strings.Contains(err.Error(), "goroutine") {
			t.Errorf("the answer tells too much: %v", err)
		}
		hashes = append(hashes, got.Metadata["stack"])
	}
	if hashes[0] == "" || hashes[0] != hashes[1] || !strings.Contains(logs.String(), hashes[0]) || !strings.Contains(logs.String(), "boom") {
		t.Errorf("hashes %q must be equal and in the log:\n%s", hashes, logs)
	}
	if _, err := client.Probe(within(t, patience), &providerv1.ProbeRequest{}); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	d := newTiny("egress.deny")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true})
	_, err := client.Probe(context.Background(), &providerv1.ProbeRequest{})
	if got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID); got.Metadata[fault.MetaField] != "deadline" {
		t.Errorf("field %q, want deadline", got.Metadata[fault.MetaField])
	}
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for _, tc := range []struct {
		name string
		hook func(ctx context.Context) error
	}{
		{"a driver that honours its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		{"a driver that does not", func(context.Context) error { <-release; return nil }},
	} {
		d.mu.Lock()
		d.hook = func(ctx context.Context, _ string) error { return tc.hook(ctx) }
		d.mu.Unlock()
		for name, want := range map[string]providerv1.Effect{"create": providerv1.Effect_EFFECT_UNKNOWN, "get": providerv1.Effect_EFFECT_NONE} {
			ctx := within(t, 2*time.Second) // a tenth of it is the server's to answer in
			var err error
			if name == "create" {
				_, err = client.CreateSandbox(ctx, createRequest("sbx_1"))
			} else {
				_, err = client.GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref("sbx_1")}})
			}
			got := fault.From(err)
			if got.Reason != providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED || !got.Wire || got.Effect != want {
				t.Errorf("%s, %s: %v wire=%v effect=%v, want DEADLINE_EXCEEDED from the wire with %v", tc.name, name, err, got.Wire, got.Effect, want)
			}
		}
	}
}

func TestDriverErrorsBecomeTheContracts(t *testing.T) {
	d := newTiny("egress.deny")
	d.settings = []*providerv1.Setting{{Name: "token", Type: providerv1.SettingType_SETTING_TYPE_STRING, Secret: true}}
	client, _ := serveDriver(t, d, sdk.Options{})
	if _, err := client.Probe(within(t, patience), &providerv1.ProbeRequest{}); err == nil {
		t.Error("an unconfigured provider answered")
	} else {
		wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED)
	}
	const secret = "tok-very-secret"
	resp, err := client.Configure(within(t, patience), &providerv1.ConfigureRequest{Secrets: map[string][]byte{"token": []byte(secret)}})
	if err != nil || resp.GetConfigGeneration() != 1 {
		t.Fatalf("%v %v", resp, err)
	}
	for _, tc := range []struct {
		name string
		err  error
		want providerv1.ErrorReason
	}{
		{"plain", errors.New("dial with " + secret), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"fault", fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "dial with %s", secret).With("url", secret), providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE},
		{"the broker's reason", fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED, "x"), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"a bare status", status.Error(codes.NotFound, "x"), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
	} {
		d.mu.Lock()
		d.hook = func(context.Context, string) error { return tc.err }
		d.mu.Unlock()
		_, err := client.Probe(within(t, patience), &providerv1.ProbeRequest{})
		got := wantReason(t, err, tc.want)
		if text := fmt.Sprint(err, got.Metadata); strings.Contains(text, secret) {
			t.Errorf("%s: the secret leaked: %s", tc.name, text)
		}
	}
}

func TestRefusedConfigureLeavesTheOldOne(t *testing.T) {
	d := newTiny("egress.deny")
	d.settings = []*providerv1.Setting{
		{Name: "region", Type: providerv1.SettingType_SETTING_TYPE_STRING, Required: true},
		{Name: "size", Type: providerv1.SettingType_SETTING_TYPE_SIZE},
		{Name: "wait", Type: providerv1.SettingType_SETTING_TYPE_DURATION},
		{Name: "count", Type: providerv1.SettingType_SETTING_TYPE_INTEGER},
		{Name: "list", Type: providerv1.SettingType_SETTING_TYPE_STRING_LIST},
		{Name: "token", Type: providerv1.SettingType_SETTING_TYPE_STRING, Secret: true, Required: true},
	}
	client, _ := serveDriver(t, d, sdk.Options{})
	good := map[string]any{"region": "r", "size": "512MiB", "wait": "90s", "count": 3, "list": []any{"a"}}
	request := func(change map[string]any, secrets map[string][]byte) *providerv1.ConfigureRequest {
		merged := map[string]any{}
		for _, m := range []map[string]any{good, change} {
			for k, v := range m {
				merged[k] = v
			}
		}
		for k, v := range merged {
			if v == nil {
				delete(merged, k)
			}
		}
		s, err := structpb.NewStruct(merged)
		if err != nil {
			t.Fatal(err)
		}
		return &providerv1.ConfigureRequest{Settings: s, Secrets: secrets}
	}
	token := map[string][]byte{"token": []byte("abcdefgh")}
	if _, err := client.Configure(within(t, patience), request(nil, token)); err != nil {
		t.Fatal(err)
	}
	calls := d.count()
	for _, tc := range []struct {
		field   string
		change  map[string]any
		secrets map[string][]byte
	}{
		{"settings.nope", map[string]any{"nope": 1}, token},
		{"settings.region", map[string]any{"region": nil}, token},
		{"settings.region", map[string]any{"region": 3}, token},
		{"settings.size", map[string]any{"size": "big"}, token},
		{"settings.wait", map[string]any{"wait": "soon"}, token},
		{"settings.count", map[string]any{"count": 1.5}, token},
		{"settings.list", map[string]any{"list": []any{1}}, token},
		{"settings.token", map[string]any{"token": "abcdefgh"}, token},
		{"secrets.token", nil, nil},
		{"secrets.region", nil, map[string][]byte{"token": []byte("abcdefgh"), "region": []byte("r")}},
	} {
		_, err := client.Configure(within(t, patience), request(tc.change, tc.secrets))
		got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		if got.Metadata[fault.MetaField] != tc.field || strings.Contains(err.Error(), "abcdefgh") {
			t.Errorf("%s: field %q: %v", tc.field, got.Metadata[fault.MetaField], err)
		}
	}
	if d.count() != calls {
		t.Error("the driver saw a refused Configure")
	}
	resp, err := client.Describe(within(t, patience), &providerv1.DescribeRequest{})
	if err != nil || resp.GetConfigGeneration() != 1 {
		t.Errorf("generation %d %v, want 1", resp.GetConfigGeneration(), err)
	}
}

func TestDrain(t *testing.T) {
	d := newTiny("egress.deny", "exec.stdin")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true})
	req := startRequest("exe_1", "cat")
	req.Spec.Stdin = true
	if _, err := client.StartExec(within(t, patience), req); err != nil {
		t.Fatal(err)
	}
	stream, err := client.AttachExec(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(input(&providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"}})); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	resp, err := client.Drain(within(t, patience), &providerv1.DrainRequest{Grace: durationpb.New(50 * time.Millisecond)})
	if err != nil || resp.GetUnfinished() != 1 {
		t.Fatalf("%v %v, want the one attachment unfinished", resp, err)
	}
	_, err = stream.Recv()
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	_, err = client.CreateSandbox(within(t, patience), createRequest("sbx_2"))
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	_, err = client.StartExec(within(t, patience), startRequest("exe_2", "true"))
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	if _, err := client.Probe(within(t, patience), &providerv1.ProbeRequest{}); err != nil {
		t.Errorf("reading while draining: %v", err)
	}
	if _, err := client.DeleteSandbox(within(t, patience), &providerv1.DeleteSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Errorf("deleting while draining: %v", err)
	}
}
