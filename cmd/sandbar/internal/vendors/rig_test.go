package vendors_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience tells a hang from a busy machine.
const patience = 3 * time.Minute

// vendor is one that is simulated.
type vendor struct {
	name string
	// secret is the secret of its provider; the rest of what its simulator says is settings.
	secret string
	// creation is the path, or a part of it, of a request for a sandbox.
	creation string
}

var all = []vendor{
	{name: "vercel", secret: "token", creation: "/v3/sandboxes"},
	{name: "daytona", secret: "api_key", creation: "/sandbox"},
}

// rig is a broker with the provider of every vendor, each of which is simulated with
// guests in memory.
type rig struct {
	t      *testing.T
	dir    string
	broker *process
	// apis are the addresses of the vendors, without a path.
	apis map[string]string
}

// newRig starts it all; more is further configuration of the provider of each.
func newRig(t *testing.T, more map[string]string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "vd") // not t.TempDir, whose path is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, dir: dir, apis: map[string]string{}}
	config := []string{"listen: {unix: " + r.socket() + "}", "state_dir: " + filepath.Join(dir, "s"), "runtime_dir: " + filepath.Join(dir, "r"), "providers:"}
	for i, v := range all {
		told := r.simulate(v)
		key := filepath.Join(dir, v.name)
		if err := os.WriteFile(key, []byte(told[v.secret]), 0o600); err != nil {
			t.Fatal(err)
		}
		delete(told, v.secret)
		settings, err := json.Marshal(told)
		if err != nil {
			t.Fatal(err)
		}
		config = append(config, fmt.Sprintf("  - {name: %s, default: %t, settings: %s, secrets: {%s: {file: %s}}%s}", v.name, i == 0, settings, v.secret, key, more[v.name]))
	}
	file := filepath.Join(dir, "broker.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.broker = r.start("serve", "--config", file)
	r.eventually("the broker to listen", func() (bool, string) {
		conn, err := net.Dial("unix", r.socket())
		if err != nil {
			return false, err.Error()
		}
		return conn.Close() == nil, ""
	})
	t.Cleanup(func() {
		for _, sb := range r.list() {
			r.ok("rm", sb.ID)
		}
	})
	return r
}

func (r *rig) socket() string { return filepath.Join(r.dir, "api.sock") }

// simulate starts a vendor, and returns what it says.
func (r *rig) simulate(v vendor) map[string]string {
	r.t.Helper()
	p := r.start("--json", "simulator", v.name, "--guests", "fake")
	var said map[string]string
	if err := json.Unmarshal([]byte(p.line()), &said); err != nil {
		r.t.Fatal(err)
	}
	scheme, rest, _ := strings.Cut(said["base_url"], "://")
	host, _, _ := strings.Cut(rest, "/")
	r.apis[v.name] = scheme + "://" + host
	return said
}

// fault has a vendor fail as its simulator's faults say.
func (r *rig) fault(name, fault string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.apis[name]+"/_simulator/faults", strings.NewReader(fault))
	if err != nil {
		r.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close() // nobody reads it
	if resp.StatusCode/100 != 2 {
		r.t.Fatalf("a fault of %s: status %d", name, resp.StatusCode)
	}
}

// process is one of sandbar that goes on.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Reader
	stderr lockedBuffer
}

// start starts sandbar; it is asked to end with the test.
func (r *rig) start(args ...string) *process {
	r.t.Helper()
	p := &process{t: r.t, cmd: r.command(context.Background(), args...)}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	p.lines = bufio.NewReader(out)
	r.t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		hung := time.AfterFunc(patience, func() { _ = p.cmd.Process.Signal(syscall.SIGABRT) })
		defer hung.Stop()
		_ = p.cmd.Wait()
		if r.t.Failed() {
			r.t.Logf("%q:\n%s", args, p.stderr.text())
		}
	})
	return p
}

func (p *process) line() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%q says %q: %v\n%s", p.cmd.Args, line, err, p.stderr.text())
	}
	return line
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (r *rig) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "sandbar"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=" + r.dir, "SANDBAR_SERVER=unix://" + r.socket()}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGABRT) } // it says where it hangs
	return cmd
}

// result is the end of a command.
type result struct {
	code           int
	stdout, stderr string
}

// run runs sandbar to its end.
func (r *rig) run(args ...string) result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := r.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		r.t.Fatalf("%q: %v", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok is run of what must succeed; it returns the output.
func (r *rig) ok(args ...string) string {
	r.t.Helper()
	res := r.run(args...)
	if res.code != 0 {
		r.t.Fatalf("%q: %+v", args, res)
	}
	return strings.TrimSpace(res.stdout)
}

// sandbox is one as `sandbar ls --json` has it.
type sandbox struct {
	ID       string `json:"sandbox_id"`
	Name     string `json:"name"`
	Provider string `json:"provider"`
	State    string `json:"state"`
}

func (r *rig) list() (out []sandbox) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.ok("ls", "--json")), &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// eventually waits until something is so.
func (r *rig) eventually(what string, met func() (bool, string)) {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		ok, is := met()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited %s for %s: %s", patience, what, is)
		}
	}
}
