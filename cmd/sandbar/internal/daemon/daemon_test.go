package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
)

// TestMain lets Ensure start this binary as a server of several kinds.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "as-server-") {
		if err := server(strings.TrimPrefix(os.Args[1], "as-server-")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func server(kind string) error {
	ready, err := daemon.AdoptReady(daemon.ReadyFD)
	if err != nil {
		return err
	}
	place, err := daemon.Locate(os.Getenv)
	if err != nil {
		return err
	}
	if kind == "dying" {
		return errors.New("no such luck")
	}
	tenure, err := daemon.Claim(context.Background(), place)
	if err != nil {
		return err
	}
	_ = os.Remove(place.Socket())
	l, err := net.Listen("unix", place.Socket())
	if err != nil {
		return err
	}
	if err := errors.Join(tenure.Announce("v1", time.Now()), ready.Say()); err != nil {
		return err
	}
	// One connection after the readiness check of the tests ends it.
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		word := make([]byte, 4)
		n, _ := conn.Read(word)
		_ = conn.Close()
		if string(word[:n]) == "stop" {
			return errors.Join(l.Close(), tenure.Close())
		}
	}
}

func place(t *testing.T) (daemon.Place, []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	env := map[string]string{"XDG_RUNTIME_DIR": dir, "XDG_STATE_HOME": filepath.Join(dir, "state")}
	p, err := daemon.Locate(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	return p, []string{"XDG_RUNTIME_DIR=" + dir, "XDG_STATE_HOME=" + env["XDG_STATE_HOME"]}
}

func stop(t *testing.T, p daemon.Place) {
	t.Helper()
	say(t, p, "stop")
	if err := daemon.AwaitGone(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnceStartOne(t *testing.T) {
	p, env := place(t)
	var started atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			mine, err := daemon.Ensure(t.Context(), p, os.Executable, []string{"as-server-good"}, env)
			if err != nil {
				t.Error(err)
			}
			if mine {
				started.Add(1)
			}
		})
	}
	wg.Wait()
	if n := started.Load(); n != 1 {
		t.Errorf("%d servers were started", n)
	}
	if card, ok := p.ReadCard(); !ok || card.Version != "v1" || card.PID < 2 {
		t.Errorf("card = %+v, %v", card, ok)
	}
	if _, err := daemon.Claim(t.Context(), p); !errors.Is(err, daemon.ErrRunning) {
		t.Errorf("Claim = %v, want ErrRunning", err)
	}
	stop(t, p)
	if daemon.Listening(t.Context(), p) {
		t.Error("something listens after the end")
	}
	if _, ok := p.ReadCard(); ok {
		t.Error("the card was left behind")
	}
}

func TestDyingServerSaysWhy(t *testing.T) {
	p, env := place(t)
	_, err := daemon.Ensure(t.Context(), p, os.Executable, []string{"as-server-dying"}, env)
	var start *daemon.StartError
	if !errors.As(err, &start) {
		t.Fatalf("err = %v, want a StartError", err)
	}
	if got := start.Error(); got != "the server did not start: exit status 3: no such luck" {
		t.Errorf("it says %q", got)
	}
	if start.Log != p.Log() {
		t.Errorf("log %q, want %q", start.Log, p.Log())
	}
}

// TestDeadSocketIsReplaced: a killed server leaves its socket, but not its lock.
func TestDeadSocketIsReplaced(t *testing.T) {
	p, env := place(t)
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Ensure(t.Context(), p, os.Executable, []string{"as-server-good"}, env); err != nil {
		t.Fatal(err)
	}
	stop(t, p)
}

func TestCancelledWhileWaiting(t *testing.T) {
	p, env := place(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := daemon.Ensure(ctx, p, os.Executable, []string{"as-server-good"}, env); !errors.Is(err, why) {
		t.Errorf("err = %v, want %v", err, why)
	}
	if daemon.Listening(t.Context(), p) {
		t.Error("a server was left behind")
	}
}

func TestLocate(t *testing.T) {
	for _, tc := range []struct {
		env        map[string]string
		dir, state string
		err        string
	}{
		{env: map[string]string{"HOME": "/h"}, dir: "/h/.local/state/sandbar/run", state: "/h/.local/state/sandbar"},
		{env: map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}, dir: "/r/sandbar", state: "/h/.local/state/sandbar"},
		{env: map[string]string{"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "rel"}, dir: "/s/sandbar/run", state: "/s/sandbar"},
		{env: map[string]string{}, err: "set HOME"},
		{env: map[string]string{"HOME": "/" + strings.Repeat("h", 90)}, err: "at most 100 bytes"},
	} {
		p, err := daemon.Locate(func(k string) string { return tc.env[k] })
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v: %v, want %q", tc.env, err, tc.err)
			}
		case err != nil || p.Dir != tc.dir || p.StateDir != tc.state:
			t.Errorf("%v: %+v, %v; want %s and %s", tc.env, p, err, tc.dir, tc.state)
		}
	}
}

// TestPrivateFolder: others' rights are taken away, and a link is not followed.
func TestPrivateFolder(t *testing.T) {
	p, _ := place(t)
	if err := os.MkdirAll(p.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	if err := errors.Join(os.Remove(p.Dir), os.Symlink(t.TempDir(), p.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); err == nil || !strings.Contains(err.Error(), "not a folder of the present user") {
		t.Errorf("err = %v, want the link refused", err)
	}
}
