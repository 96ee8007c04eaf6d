package pluginhost_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// install copies the test binary into a plugin folder.
func install(t *testing.T, dir, name string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	path := filepath.Join(dir, "sandbar-provider-"+name)
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// upgrade makes another binary of it that works the same: what follows an ELF's
// sections is nobody's business but the digest's.
func upgrade(t *testing.T, path string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(old, "a new version"...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// installed returns options for the plugin called test in a folder.
func installed(t *testing.T, dir string, trust pluginhost.Trust) pluginhost.Options {
	t.Helper()
	opts := options(t)
	opts.Dirs = []pluginhost.Dir{{Path: dir, Trust: trust}}
	opts.LockFile = filepath.Join(opts.StateDir, "plugins.lock")
	opts.Plugins[0].Binary = ""
	return opts
}

// runs starts a host once and returns the state it comes to.
func runs(t *testing.T, opts pluginhost.Options) pluginhost.Status {
	t.Helper()
	h := start(t, opts)
	defer func() {
		if err := h.Close(testContext(t)); err != nil {
			t.Error(err)
		}
	}()
	until(t, h, "start or quarantine", func(s pluginhost.Status) bool {
		return s.State == supervisor.Ready || s.State == supervisor.Quarantined
	})
	return only(t, h).Status()
}

func TestTrust(t *testing.T) {
	for _, tc := range []struct {
		name                string
		trust               pluginhost.Trust
		locked              bool // lock it in before the first run
		first, upgraded     supervisor.State
		firstSays, thenSays string
	}{
		{"strict, unknown", pluginhost.TrustLock, false, supervisor.Quarantined, supervisor.Quarantined, "is not in the plugin lock file", "run: sandbar plugin lock test"},
		{"strict, locked", pluginhost.TrustLock, true, supervisor.Ready, supervisor.Quarantined, "", "has changed: the plugin lock file expects sha256"},
		{"first use", pluginhost.TrustFirstUse, false, supervisor.Ready, supervisor.Quarantined, "", "has changed: the plugin lock file expects sha256"},
		{"location", pluginhost.TrustLocation, false, supervisor.Ready, supervisor.Ready, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := install(t, dir, "test")
			opts := installed(t, dir, tc.trust)
			found, err := pluginhost.Discover(opts.Dirs)
			if err != nil || len(found) != 1 {
				t.Fatalf("discovered %v, %v", found, err)
			}
			if tc.locked {
				if _, err := pluginhost.LockIn(testContext(t), opts.LockFile, found); err != nil {
					t.Fatal(err)
				}
			}
			check := func(s pluginhost.Status, want supervisor.State, says string) {
				t.Helper()
				if s.State != want || !strings.Contains(s.Reason, says) {
					t.Errorf("state %s because %q, want %s because %q", s.State, s.Reason, want, says)
				}
			}
			check(runs(t, opts), tc.first, tc.firstSays)
			upgrade(t, path)
			check(runs(t, opts), tc.upgraded, tc.thenSays)
			// What Verify says agrees with what happens.
			verdicts, err := pluginhost.Verify(opts.LockFile, found)
			if err != nil {
				t.Fatal(err)
			}
			if ok := verdicts[0].Err == nil; ok != (tc.upgraded == supervisor.Ready) {
				t.Errorf("Verify says %v", verdicts[0].Err)
			}
			if tc.upgraded == supervisor.Ready {
				return
			}
			// The command in the message mends it.
			if _, err := pluginhost.LockIn(testContext(t), opts.LockFile, found); err != nil {
				t.Fatal(err)
			}
			check(runs(t, opts), supervisor.Ready, "")
		})
	}
}

func TestDigestIsReported(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "test")
	opts := installed(t, dir, pluginhost.TrustLocation)
	found, err := pluginhost.Discover(opts.Dirs)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := pluginhost.Verify(opts.LockFile, found)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, opts)
	until(t, h, "start", func(s pluginhost.Status) bool { return s.State == supervisor.Ready })
	only(t, h).Settled(testContext(t))
	s := only(t, h).Status()
	if s.SHA256 != verdicts[0].Pin.SHA256 || len(s.SHA256) != 64 {
		t.Errorf("status has sha256 %q, want %q", s.SHA256, verdicts[0].Pin.SHA256)
	}
}

func TestEverybodysBinariesAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		chmod func(t *testing.T, dir, path string) error
		want  string
	}{
		{"file", func(_ *testing.T, _, path string) error { return os.Chmod(path, 0o757) }, "everybody may write to it"},
		{"folder", func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o777) }, "everybody may replace what is in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := install(t, dir, "test")
			if err := tc.chmod(t, dir, path); err != nil {
				t.Fatal(err)
			}
			if s := runs(t, installed(t, dir, pluginhost.TrustLocation)); s.State != supervisor.Quarantined || !strings.Contains(s.Reason, tc.want) {
				t.Errorf("state %s because %q, want %q", s.State, s.Reason, tc.want)
			}
		})
	}
}

func TestDiscover(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	install(t, first, "b")
	install(t, second, "b")
	install(t, second, "a")
	install(t, second, "Not-A-Name")
	if err := os.WriteFile(filepath.Join(second, "sandbar-provider-text"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(second, "sandbar-provider-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := pluginhost.Discover([]pluginhost.Dir{{Path: filepath.Join(first, "absent")}, {Path: first, Trust: pluginhost.TrustLocation}, {Path: second}})
	want := []pluginhost.Binary{
		{Name: "a", Path: filepath.Join(second, "sandbar-provider-a")},
		{Name: "b", Path: filepath.Join(first, "sandbar-provider-b"), Trust: pluginhost.TrustLocation},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, diff (-want +got):\n%s", err, diff)
	}
	// A provider that is configured with a path is that one, there or not.
	got, err = pluginhost.Discover([]pluginhost.Dir{{Path: second}}, pluginhost.Config{Name: "a", Binary: "/elsewhere/a"}, pluginhost.Config{Name: "c"})
	want = []pluginhost.Binary{{Name: "a", Path: "/elsewhere/a"}, {Name: "b", Path: filepath.Join(second, "sandbar-provider-b")}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("with a path: error %v, diff (-want +got):\n%s", err, diff)
	}
}

func TestInspect(t *testing.T) {
	script := func(text string) pluginhost.Binary {
		path := filepath.Join(t.TempDir(), "sandbar-provider-test")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return pluginhost.Binary{Name: "test", Path: path}
	}
	for _, tc := range []struct{ name, script, want string }{
		{"not a manifest", "echo usage: none", "manifest is not a JSON object"},
		{"fails", "echo no such flag: $1 >&2; exit 2", "--describe ended with exit status 2: no such flag: --describe"},
		{"another name", `echo '{"name":"other","protocol_majors":[1]}'`, `calls itself "other"`},
		{"another major", `echo '{"name":"test","protocol_majors":[9]}'`, "want one that holds 1"},
		{"endless", "while :; do echo 0123456789012345678901234567890123456789; done", "did not end within"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := pluginhost.Inspect(testContext(t), script(tc.script)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	i, err := pluginhost.Inspect(testContext(t), script(`[ -z "$HOME$PATH_FROM_HOST" ] && echo '{"name":"test","version":"1.2.3","protocol_majors":[1,2]}'`))
	if err != nil || i.Pin.Version != "1.2.3" || len(i.Pin.SHA256) != 64 || i.Pin.Size == 0 {
		t.Errorf("got %+v, %v", i, err)
	}
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not-yet", "plugins.lock")
	if l, err := pluginhost.ReadLock(path); err != nil || len(l.Plugins) != 0 {
		t.Errorf("absent lock file: %v, %v", l, err)
	}
	for _, name := range []string{"a", "b"} {
		err := pluginhost.UpdateLock(path, func(l *pluginhost.Lock) error {
			l.Plugins[name] = pluginhost.Pin{Version: "1", SHA256: name, Size: 3}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := pluginhost.ReadLock(path)
	want := pluginhost.Lock{Format: 1, Plugins: map[string]pluginhost.Pin{"a": {Version: "1", SHA256: "a", Size: 3}, "b": {Version: "1", SHA256: "b", Size: 3}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, diff (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{"{": "is not valid", `{"format":2}`: "has format 2: want 1"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pluginhost.ReadLock(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lock file %s: %v", text, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := pluginhost.New(pluginhost.Options{
		RuntimeDir: "/" + strings.Repeat("long/", 20), StateDir: "relative",
		Plugins: []pluginhost.Config{{Name: "../x"}, {Name: "a"}, {Name: "a"}},
	})
	for _, want := range []string{"choose a shorter one", `state folder is "relative"`, `name is "../x"`, `"a" is configured twice`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	loose := options(t)
	if err := os.Chmod(loose.RuntimeDir, 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := pluginhost.New(loose)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(testContext(t)); err == nil || !strings.Contains(err.Error(), "want 0700") {
		t.Errorf("start with a runtime folder of mode 0755: %v", err)
	}
	if err := h.Close(testContext(t)); err != nil {
		t.Error(err)
	}
	if _, err := ask(testContext(t), only(t, h), "facts"); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DRAINING) {
		t.Errorf("call to a host that was closed and never started: %v", err)
	}
}

func TestLongestRuntimeDirWorks(t *testing.T) {
	opts := options(t)
	opts.RuntimeDir += "/" + strings.Repeat("x", pluginhost.MaxRuntimeDir-len(opts.RuntimeDir)-1)
	h := start(t, opts)
	if _, err := ask(testContext(t), only(t, h), "facts"); err != nil {
		t.Error(err)
	}
	opts.RuntimeDir += "x"
	if _, err := pluginhost.New(opts); err == nil {
		t.Error("one byte more was accepted")
	}
}

func TestMissingBinary(t *testing.T) {
	opts := installed(t, t.TempDir(), pluginhost.TrustLock)
	h := start(t, opts)
	_, err := ask(testContext(t), only(t, h), "facts")
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED) || !strings.Contains(err.Error(), "there is no executable sandbar-provider-test in "+opts.Dirs[0].Path) {
		t.Errorf("got %v", err)
	}
}
