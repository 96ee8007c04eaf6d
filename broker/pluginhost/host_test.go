package pluginhost_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// testBudget is far above what anything here takes, and far below for ever.
const testBudget = 2 * time.Minute

// options returns what a test starts from: one plugin called test, which is this
// test binary.
func options(t *testing.T, behaviours ...string) pluginhost.Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return pluginhost.Options{
		RuntimeDir: shortDir(t), StateDir: t.TempDir(), Owner: "brk_test",
		Plugins: []pluginhost.Config{{
			Name: "test", Binary: exe, Trust: pluginhost.TrustLocation, Args: append([]string{testPluginArg}, behaviours...),
		}},
	}
}

// shortDir is a temporary folder of mode 0700 with a path that sockets fit under.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testBudget)
	t.Cleanup(cancel)
	return ctx
}

// start returns a started host that is closed, and must have left nothing, at the
// end of the test.
func start(t *testing.T, opts pluginhost.Options) *pluginhost.Host {
	t.Helper()
	running := goleak.IgnoreCurrent()
	h, err := pluginhost.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testBudget)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		goleak.VerifyNone(t, running)
		if left := launchDirs(t, opts.RuntimeDir); len(left) > 0 {
			t.Errorf("left in the runtime folder: %v", left)
		}
	})
	return h
}

func launchDirs(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func only(t *testing.T, h *pluginhost.Host) *pluginhost.Plugin {
	t.Helper()
	p, err := h.Plugin("test")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask runs a command of the test plugin.
func ask(ctx context.Context, p *pluginhost.Plugin, command string) (testFacts, error) {
	resp, err := providerv1.NewProviderServiceClient(p).GetSandbox(ctx, &providerv1.GetSandboxRequest{
		By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: &providerv1.SandboxRef{SandboxId: command}},
	})
	if err != nil {
		return testFacts{}, err
	}
	var f testFacts
	return f, json.Unmarshal([]byte(resp.GetSandbox().GetStatusReason()), &f)
}

// until waits for a state of the plugin.
func until(t *testing.T, h *pluginhost.Host, what string, ok func(pluginhost.Status) bool) pluginhost.Status {
	t.Helper()
	ctx := testContext(t)
	changes := h.Subscribe(ctx)
	last := only(t, h).Status()
	for {
		if ok(last) {
			return last
		}
		select {
		case s, open := <-changes:
			if !open {
				t.Fatalf("no %s; last: %+v", what, last)
			}
			last = s
		case <-ctx.Done():
			t.Fatalf("no %s within %s; last: %+v", what, testBudget, last)
		}
	}
}

func TestStartAndCall(t *testing.T) {
	t.Setenv("HOST_SECRET", "sentinel-4711")
	opts := options(t)
	opts.Plugins[0].Env = map[string]string{"COLOUR": "blue"}
	h := start(t, opts)
	p := only(t, h)
	f, err := ask(testContext(t), p, "facts")
	if err != nil {
		t.Fatal(err)
	}
	if f.PGID != f.PID || f.SID != f.PID {
		t.Errorf("pid %d has group %d and session %d: want its own of both", f.PID, f.PGID, f.SID)
	}
	if f.Stdin != os.DevNull {
		t.Errorf("stdin is %s: want %s", f.Stdin, os.DevNull)
	}
	var names []string
	for _, kv := range f.Env {
		name, value, _ := strings.Cut(kv, "=")
		names = append(names, name)
		if strings.Contains(value, "sentinel-4711") {
			t.Errorf("%s leaked from the host", name)
		}
	}
	slices.Sort(names)
	want := []string{"COLOUR", "GOTRACEBACK", "PLUGIN_CLIENT_CERT", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "SANDBAR_PLUGIN", "SANDBAR_PLUGIN_PARENT_PID"}
	if !slices.Equal(names, want) {
		t.Errorf("environment holds %v: want %v", names, want)
	}
	exe, _ := os.Executable()
	if slices.Contains(f.FDs, exe) {
		t.Errorf("the descriptor of the binary leaked into the plugin: %v", f.FDs)
	}
	s := p.Status()
	if s.State != supervisor.Ready || s.PID != f.PID || s.Version != "1.0.0" || s.Starts != 1 || s.Path != exe || len(s.Capabilities) != 1 {
		t.Errorf("status is %+v", s)
	}
}
