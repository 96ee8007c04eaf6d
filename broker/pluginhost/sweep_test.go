package pluginhost_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
)

// testHostArg makes the test binary a broker that can be killed.
const testHostArg = "be-a-host"

// beHost runs a host until it is killed, and prints its plugin's pids.
func beHost(args []string) {
	exe, _ := os.Executable()
	h, err := pluginhost.New(pluginhost.Options{RuntimeDir: args[0], StateDir: args[1], Plugins: []pluginhost.Config{{
		Name: "test", Binary: exe, Trust: pluginhost.TrustLocation, Args: []string{testPluginArg},
	}}})
	if err == nil {
		err = h.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	p, _ := h.Plugin("test")
	f, err := ask(context.Background(), p, "facts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(f)
	select {}
}

func TestSweepAfterKilledHost(t *testing.T) {
	opts := options(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.CommandContext(testContext(t), exe, testHostArg, opts.RuntimeDir, opts.StateDir)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var f testFacts
	if err := json.NewDecoder(out).Decode(&f); err != nil {
		t.Fatal(err)
	}
	// Another broker on the same folder leaves a living one's plugins alone.
	other := start(t, opts)
	if _, err := ask(testContext(t), only(t, other), "facts"); err != nil {
		t.Fatal(err)
	}
	if !exists(f.PID) {
		t.Fatal("a living broker's plugin was swept")
	}
	if err := other.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	// A record with the pid of an innocent process, whose start time differs.
	decoy := exec.CommandContext(testContext(t), "sleep", "300")
	if err := decoy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = decoy.Process.Kill()
		_ = decoy.Wait()
	}()
	plant(t, opts.RuntimeDir, decoy.Process.Pid)

	_ = host.Process.Kill()
	_ = host.Wait()
	if left := launchDirs(t, opts.RuntimeDir); len(left) != 2 {
		t.Fatalf("the killed host left %v, want its launch folder and the planted one", left)
	}
	next := start(t, opts)
	if exists(f.PID) {
		t.Error("the killed host's plugin was not swept")
	}
	if !exists(decoy.Process.Pid) {
		t.Error("an innocent process was killed")
	}
	if _, err := ask(testContext(t), only(t, next), "facts"); err != nil {
		t.Error(err)
	}
	if left := launchDirs(t, opts.RuntimeDir); len(left) != 1 {
		t.Errorf("launch folders after the sweep: %v, want one", left)
	}
}

// plant leaves the folder of a broker that died long ago.
func plant(t *testing.T, runtimeDir string, pid int) {
	t.Helper()
	dir := filepath.Join(runtimeDir, "p4711")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	record := fmt.Sprintf(`{"provider":"x","host":{"pid":%d,"start":1,"boot":"b"},"plugin":{"pid":%d,"start":1,"boot":"b"}}`, os.Getpid(), pid)
	if err := os.WriteFile(filepath.Join(dir, "launch.json"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "plugin1"))
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	_ = l.Close()
}
