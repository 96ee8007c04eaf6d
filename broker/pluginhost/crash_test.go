package pluginhost_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// quick are limits under which a test sees in a second what takes minutes.
func quick() supervisor.Limits {
	l := supervisor.Defaults()
	l.BackoffBase, l.BackoffMax, l.HalfOpen = time.Millisecond, 5*time.Millisecond, 100*time.Millisecond
	return l
}

// many lets a plugin crash as often as a test likes.
func many() supervisor.Limits {
	l := quick()
	l.MaxExits = 1 << 20
	return l
}

// exists reports whether a process exists and is not a zombie.
func exists(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// waitGone polls, since a process that is not our child cannot be waited for.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	ctx := testContext(t)
	for exists(pid) {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d is still there", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestCrashDuringCall(t *testing.T) {
	opts := options(t)
	opts.Limits = quick()
	h := start(t, opts)
	p := only(t, h)
	for i, tc := range []struct {
		command string
		want    []string
	}{
		{"exit Ada", []string{`provider "test" was lost`, "exit status 7", "last words of Ada"}},
		{"panic jumped", []string{"exit status 2", "panic: the cat jumped"}},
	} {
		_, err := ask(testContext(t), p, tc.command)
		e := fault.From(err)
		if e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED || e.Effect != providerv1.Effect_EFFECT_UNKNOWN || e.Wire {
			t.Errorf("%s: got %#v, want PLUGIN_CRASHED with unknown effect", tc.command, e)
		}
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", tc.command, err, want)
			}
		}
		until(t, h, "restart", func(s pluginhost.Status) bool { return s.State == supervisor.Ready && s.Starts == i+2 })
	}
	if s := p.Status(); s.Starts != 3 {
		t.Errorf("%d starts, want 3", s.Starts)
	}
}

func TestPluginErrorsPassAsTheyCame(t *testing.T) {
	h := start(t, options(t))
	_, err := ask(testContext(t), only(t, h), "unavailable")
	if st, ok := status.FromError(err); !ok || st.Message() != "upstream is asleep" || st.Code() != codes.Unavailable {
		// The plugin said so, but without a reason, like a broken connection: it
		// may be relabelled, but never silently lose its words.
		if err == nil || !strings.Contains(err.Error(), "upstream is asleep") {
			t.Errorf("got %v", err)
		}
	}
	_, err = ask(testContext(t), only(t, h), "big")
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("an answer of 5 MiB: %v, want ResourceExhausted", err)
	}
}

func TestStreamSeesCrash(t *testing.T) {
	opts := options(t)
	opts.Limits = quick()
	h := start(t, opts)
	p := only(t, h)
	f, err := ask(testContext(t), p, "facts")
	if err != nil {
		t.Fatal(err)
	}
	s, err := providerv1.NewProviderServiceClient(p).AttachExec(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&providerv1.AttachExecRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(f.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED) || !strings.Contains(err.Error(), "SIGKILL") {
		t.Errorf("got %v, want PLUGIN_CRASHED by SIGKILL", err)
	}
}

// TestFiftyCrashes leaves nothing behind; start checks goroutines and folders.
func TestFiftyCrashes(t *testing.T) {
	opts := options(t)
	opts.Limits = many()
	h := start(t, opts)
	p := only(t, h)
	var before int
	for i := range 50 {
		s := until(t, h, "start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready && s.Generation > uint64(i) })
		if i == 10 {
			before = runtime.NumGoroutine()
		}
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, h, "end", func(s pluginhost.Status) bool { return s.Generation > uint64(i)+1 || s.State == supervisor.Backoff })
	}
	until(t, h, "last start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready && s.Generation == 51 })
	if _, err := ask(testContext(t), p, "facts"); err != nil {
		t.Error(err)
	}
	if now := runtime.NumGoroutine(); now > before+10 {
		t.Errorf("%d goroutines after 50 crashes, %d after 10", now, before)
	}
	if dirs := launchDirs(t, opts.RuntimeDir); len(dirs) != 1 {
		t.Errorf("launch folders: %v, want that of the live process alone", dirs)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(entries) > 60 {
		t.Errorf("%d descriptors are open: %v", len(entries), err)
	}
}

func TestCrashLoopIsQuarantinedAndHealed(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts := options(t, "crash-while="+flag)
	opts.Limits = quick()
	h := start(t, opts)
	s := until(t, h, "quarantine", func(s pluginhost.Status) bool { return s.State == supervisor.Quarantined })
	if s.Starts != 5 || s.RetryAt.IsZero() {
		t.Errorf("quarantined after %d starts with retry at %s, want 5 starts", s.Starts, s.RetryAt)
	}
	for _, want := range []string{"ended 5 times", "exit status 3", "flux capacitor"} {
		if !strings.Contains(s.Reason, want) {
			t.Errorf("reason %q does not say %q", s.Reason, want)
		}
	}
	if _, err := ask(testContext(t), only(t, h), "facts"); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED) {
		// an attempt may be under way, which a call waits for
		t.Logf("call in quarantine: %v", err)
	}
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	until(t, h, "half-open attempt that succeeds", func(s pluginhost.Status) bool { return s.State == supervisor.Ready })
}

func TestRestartLiftsQuarantine(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts := options(t, "crash-while="+flag)
	opts.Limits = quick()
	opts.Limits.HalfOpen = time.Hour
	h := start(t, opts)
	until(t, h, "quarantine", func(s pluginhost.Status) bool { return s.State == supervisor.Quarantined })
	_, err := ask(testContext(t), only(t, h), "facts")
	if e := fault.From(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED || e.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("call in quarantine: %v", err)
	}
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	if err := only(t, h).Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(testContext(t), only(t, h), "facts"); err != nil {
		t.Error(err)
	}
}

func TestFrozenPluginIsReplaced(t *testing.T) {
	opts := options(t)
	opts.Limits = quick()
	// Time enough for both calls to be on their way before anything is noticed.
	opts.Limits.HealthEvery, opts.Limits.HealthDeadline = 300*time.Millisecond, 2*time.Second
	h := start(t, opts)
	p := only(t, h)
	frozen := until(t, h, "start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready })
	freeze(t, frozen.PID)
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, p, "facts"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("call to a frozen plugin: %v", err)
	}
	_, err := ask(testContext(t), p, "facts") // without a deadline of its own worth the name
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED) {
		t.Errorf("got %v, want PLUGIN_CRASHED", err)
	}
	until(t, h, "replacement", func(s pluginhost.Status) bool { return s.State == supervisor.Ready && s.Generation == 2 })
}

// TestDescendants: one in the group ends with the plugin, though it holds stderr;
// one in a session of its own outlives it and does not delay anything.
func TestDescendants(t *testing.T) {
	opts := options(t)
	opts.Limits = quick()
	h := start(t, opts)
	p := only(t, h)
	inside, err := ask(testContext(t), p, "child group")
	if err != nil {
		t.Fatal(err)
	}
	outside, err := ask(testContext(t), p, "child session")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(outside.Child, syscall.SIGKILL)
		waitGone(t, outside.Child)
	}()
	if _, err := ask(testContext(t), p, "exit now"); err == nil {
		t.Error("no error")
	}
	until(t, h, "replacement although a descendant holds stderr", func(s pluginhost.Status) bool { return s.State == supervisor.Ready && s.Generation == 2 })
	waitGone(t, inside.Child)
	if !exists(outside.Child) {
		t.Error("a descendant with a session of its own must outlive the plugin")
	}
}

// TestSilentPluginDelaysNobody also shows the start budget and who is to blame.
func TestSilentPluginDelaysNobody(t *testing.T) {
	opts := options(t)
	opts.StartBudget = 15 * time.Second
	opts.Limits = quick()
	silent := opts.Plugins[0]
	silent.Name, silent.Args = "silent", []string{testPluginArg, "silent"}
	opts.Plugins = append([]pluginhost.Config{silent}, opts.Plugins...)
	h := start(t, opts)
	began := time.Now()
	if _, err := ask(testContext(t), only(t, h), "facts"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > opts.StartBudget {
		t.Errorf("a silent plugin delayed another one by %s", took)
	}
	p, err := h.Plugin("silent")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ask(testContext(t), p, "facts")
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING) || !strings.Contains(err.Error(), "not ready within 15s") {
		t.Errorf("got %v", err)
	}
}

func TestStartFailures(t *testing.T) {
	for _, tc := range []struct {
		name      string
		behaviour string
		state     supervisor.State
		want      string
	}{
		{"output before the handshake", "print-first=hello world", supervisor.Backoff, "Unrecognized remote plugin message: hello world"},
		{"another name", "name=other", supervisor.Quarantined, `calls itself "other": want "test"`},
		{"configuration refused", "refuse-config", supervisor.Quarantined, "setting colour is unknown"},
		{"not ready", "not-ready", supervisor.Degraded, "quota: no credit left (add some)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := options(t, tc.behaviour)
			opts.Limits = supervisor.Defaults()
			opts.Limits.BackoffBase = time.Hour
			h := start(t, opts)
			s := until(t, h, tc.state.String(), func(s pluginhost.Status) bool { return s.State == tc.state })
			if !strings.Contains(s.Reason, tc.want) {
				t.Errorf("reason %q does not say %q", s.Reason, tc.want)
			}
			_, err := ask(testContext(t), only(t, h), "facts")
			if served := err == nil; served != tc.state.Serving() {
				t.Errorf("call in state %s: %v", tc.state, err)
			}
		})
	}
}

func TestLazyAndOnReady(t *testing.T) {
	opts := options(t)
	opts.Plugins[0].Lazy = true
	ready := make(chan uint64, 1)
	opts.OnReady = func(ctx context.Context, p *pluginhost.Plugin, generation uint64) {
		if _, err := ask(ctx, p, "facts"); err != nil { // calls go through by then
			t.Errorf("call from OnReady: %v", err)
		}
		ready <- generation
	}
	h := start(t, opts)
	p := only(t, h)
	if s := p.Status(); s.State != supervisor.Stopped || s.Starts != 0 {
		t.Errorf("status before the first call: %+v", s)
	}
	if p.Described() != nil {
		t.Error("described before it was started")
	}
	d, err := p.Descriptor(testContext(t))
	if err != nil || d.GetName() != "test" {
		t.Errorf("descriptor %v, %v", d, err)
	}
	if g := <-ready; g != 1 {
		t.Errorf("generation %d", g)
	}
}

func TestCallGivesUpWithItsContext(t *testing.T) {
	opts := options(t, "silent")
	opts.StartBudget = time.Hour
	h := start(t, opts)
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	_, err := ask(ctx, only(t, h), "facts")
	e := fault.From(err)
	if e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED || e.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("got %#v, want DEADLINE_EXCEEDED with effect none", e)
	}
	closing, cancelClose := context.WithTimeout(context.Background(), time.Second)
	defer cancelClose()
	began := time.Now()
	_ = h.Close(closing)
	if took := time.Since(began); took > testBudget {
		t.Errorf("closing called the start off after %s", took)
	}
}
