package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestManyCommandsStartOneBroker: however many are first, there is one broker.
func TestManyCommandsStartOneBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if res := w.run("run", "--", "echo", itoa(i)); res != (result{0, itoa(i) + "\n", ""}) {
				t.Errorf("command %d: %+v", i, res)
			}
		})
	}
	wg.Wait()
	if all := w.kind(broker, ""); len(all) != 1 {
		t.Errorf("brokers:%s", describe(all))
	}
	w.none()
}

// TestSandboxesOutliveTheBroker: they are found again by the next command, even
// of another version, which says so.
func TestSandboxesOutliveTheBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.counting()
	at := w.count(sb)
	w.ok("daemon", "stop")
	if out := w.ok("daemon", "status"); !strings.Contains(out, "not running") {
		t.Errorf("status: %q", out)
	}
	if len(w.kind(shim, sb)) != 1 {
		t.Error("the sandbox ended with the broker")
	}
	w.goesOn(sb, at)

	w.bin = filepath.Join(binaries, "other", "sandbar")
	if out := w.ok("exec", sb, "--", "echo", "still here"); out != "still here" {
		t.Errorf("the command of another version: %q", out)
	}
	res := w.run("daemon", "status")
	if !strings.Contains(res.stdout, "e2e") || !strings.Contains(res.stderr, "another") || !strings.Contains(res.stderr, "daemon stop") {
		t.Errorf("status of another version: %+v", res)
	}
	w.bin = filepath.Join(binaries, "sandbar")
	w.ok("daemon", "stop")
	w.ok("daemon", "stop") // again is no failure
}

// TestServeOverTCP: without the right key nothing is told or done.
func TestServeOverTCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const key = "sbk_correct-horse-battery-staple"
	config := w.write("config.yaml", fmt.Sprintf("listen: {tcp: %q}\napi_keys: [{name: test, sha256: %x}]\nproviders: [{name: local, default: true}, {name: fake}]\n",
		address, sha256.Sum256([]byte(key))))
	serve := w.start("serve", "--config", config)
	w.eventually("the port to answer", func() (bool, string) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for header, want := range map[string]int{"": 401, "Bearer wrong": 401, "Basic " + key: 401, "Bearer " + key: 200} {
		req, err := http.NewRequest(http.MethodPost, "http://"+address+"/sandbar.broker.v1.SandboxService/ListSandboxes", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("Authorization %q: status %d, want %d", header, res.StatusCode, want)
		}
	}
	remote := []string{"--server", "http://" + address}
	if res := w.run(append(remote, "ls")...); res.code != 1 || res.stderr == "" {
		t.Errorf("without a key: %+v", res)
	}
	w.env = append(w.env, "SANDBAR_API_KEY="+key)
	if res := w.run(append(remote, "run", "--", "sh", "-c", "echo far; exit 4")...); res != (result{4, "far\n", ""}) {
		t.Errorf("over TCP: %+v", res)
	}
	if res := w.run(append(remote, "run", "--provider", "fake", "--", "echo", "fake")...); res.code != 0 {
		t.Errorf("the other provider: %+v", res)
	}
	if res := w.run("ls"); res.code != 0 {
		t.Errorf("over the socket: %+v", res)
	}
	serve.signal(syscall.SIGTERM)
	if res := serve.end(); res.code != 0 && res.code != 143 {
		t.Errorf("serve ended with %+v", res)
	}
}

// TestBrokerIsMissing: commands that need no broker work without it, and others say
// what is missing where.
func TestBrokerIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alone := t.TempDir()
	w.bin = filepath.Join(alone, "sandbar")
	program, err := os.ReadFile(filepath.Join(binaries, "sandbar"))
	if err == nil {
		err = os.WriteFile(w.bin, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { w.bin = filepath.Join(binaries, "sandbar") }()
	w.ok("conformance", "list")
	for _, command := range []string{"ls", "serve", "plugin ls"} {
		res := w.run(strings.Fields(command)...)
		if res.code == 0 || !strings.Contains(res.stderr, filepath.Join(alone, "sandbar-broker")) {
			t.Errorf("%s: %+v: want it to say that sandbar-broker is missing in %s", command, res, alone)
		}
	}
}
