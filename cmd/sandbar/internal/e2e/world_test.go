package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds everything a test waits for. It is far above what anything
// takes, so that a busy machine fails no test.
const patience = 5 * time.Minute

// world is one user's Sandbar.
type world struct {
	t *testing.T
	// dir holds everything; it is short, as the paths of sockets must be.
	dir                       string
	state, runtime, home, tmp string
	bin                       string
	env                       []string
	mu                        sync.Mutex
	seen                      map[process]string
	namespaces                map[string]*os.File
}

// newWorld makes the folders of a world whose end proves that nothing is left.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	return worldIn(t, dir)
}

// worldIn is newWorld in a folder, which goes with it.
func worldIn(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{
		t: t, dir: dir, state: filepath.Join(dir, "s"), runtime: filepath.Join(dir, "r"), home: filepath.Join(dir, "h"), tmp: filepath.Join(dir, "t"),
		bin:  filepath.Join(binaries, "sandbar"),
		seen: map[process]string{}, namespaces: map[string]*os.File{},
	}
	for _, d := range []string{w.state, w.runtime, w.home, w.tmp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "TMPDIR=" + w.tmp,
		"XDG_STATE_HOME=" + w.state, "XDG_RUNTIME_DIR=" + w.runtime, "TERM=xterm",
	}
	t.Cleanup(w.end)
	return w
}

// end takes down what a test left on purpose and proves that the rest is gone.
func (w *world) end() {
	w.t.Helper()
	w.look()
	for _, sb := range w.list() {
		w.ok("rm", sb.ID)
	}
	for _, kind := range []string{"snapshot", "volume"} {
		for _, name := range w.column(kind, "ls") {
			w.ok(kind, "rm", name)
		}
	}
	w.ok("daemon", "stop")
	w.provesEmpty()
	if w.t.Failed() {
		w.tell()
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

// tell shows the logs of a world that failed.
func (w *world) tell() {
	log, err := os.ReadFile(filepath.Join(w.runtime, "sandbar", "server.log"))
	w.t.Logf("the broker's log: %s %v", tailOf(log, 6000), err)
	logs, _ := filepath.Glob(filepath.Join(w.state, "sandbar/plugins/*/sandboxes/*/shim.log"))
	for _, name := range logs {
		log, err := os.ReadFile(name)
		w.t.Logf("%s: %s %v", name, tailOf(log, 2000), err)
	}
}

func tailOf(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// result is the end of one command.
type result struct {
	code           int
	stdout, stderr string
}

// command is sandbar with arguments, killed when it takes too long.
func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = w.env
	cmd.Dir = w.tmp
	// A command that hangs says where.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGABRT) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs sandbar to its end, without input.
func (w *world) run(args ...string) result {
	w.t.Helper()
	return w.finish(w.command(args...))
}

// feed is run with input.
func (w *world) feed(in string, args ...string) result {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.Stdin = strings.NewReader(in)
	return w.finish(cmd)
}

func (w *world) finish(cmd *exec.Cmd) result {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Errorf("%q: %v; it said %q", cmd.Args, err, errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok runs a command that must succeed and returns what it printed, without the
// end of the line.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	res := w.run(args...)
	if res.code != 0 {
		w.t.Errorf("sandbar %q: exit code %d, stdout %q, stderr %q", args, res.code, res.stdout, res.stderr)
	}
	return strings.TrimSuffix(res.stdout, "\n")
}

// sh runs a script in a sandbox; it must succeed.
func (w *world) sh(sandbox, script string) string {
	w.t.Helper()
	return w.ok("exec", sandbox, "--", "sh", "-c", script)
}

// wants runs a command that must end with a code and say something.
func (w *world) wants(code int, says string, args ...string) result {
	w.t.Helper()
	res := w.run(args...)
	if res.code != code || !strings.Contains(res.stderr, says) {
		w.t.Errorf("sandbar %q: exit code %d, stderr %q; want %d and %q", args, res.code, res.stderr, code, says)
	}
	return res
}

// create makes a sandbox that must run.
func (w *world) create(args ...string) string {
	w.t.Helper()
	res := w.run(append([]string{"create"}, args...)...)
	if res.code != 0 {
		w.t.Fatalf("create %q: exit code %d: %s", args, res.code, res.stderr)
	}
	w.look()
	return strings.TrimSpace(res.stdout)
}

// sandbox is one line of ls.
type sandbox struct {
	ID    string `json:"sandbox_id"`
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"status_reason"`
}

const (
	running = "SANDBOX_STATE_RUNNING"
	paused  = "SANDBOX_STATE_PAUSED"
	unknown = "SANDBOX_STATE_UNKNOWN"
)

func (w *world) list() []sandbox {
	w.t.Helper()
	var all []sandbox
	w.json(&all, "ls", "--json")
	return all
}

func (w *world) json(v any, args ...string) {
	w.t.Helper()
	text := w.ok(args...)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		w.t.Errorf("sandbar %q printed %q: %v", args, text, err)
	}
}

// get returns a sandbox that must be known.
func (w *world) get(id string) sandbox {
	w.t.Helper()
	var sb sandbox
	w.json(&sb, "get", id, "--json")
	return sb
}

// column returns the first column of a table without its head.
func (w *world) column(args ...string) []string {
	w.t.Helper()
	var out []string
	lines := strings.Split(w.ok(args...), "\n")
	for _, line := range lines[1:] {
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f[0])
		}
	}
	return out
}

// none proves that there is no sandbox and no shim.
func (w *world) none() {
	w.t.Helper()
	if all := w.list(); len(all) != 0 {
		w.t.Errorf("sandboxes are left: %+v", all)
	}
	w.eventually("the end of all shims", func() (bool, string) {
		left := w.kind(shim, "")
		return len(left) == 0, describe(left)
	})
}

// eventually waits for a condition, which returns what it saw.
func (w *world) eventually(what string, met func() (bool, string)) {
	w.t.Helper()
	limit := time.NewTimer(patience / 3)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, saw := met()
		if yes {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			w.t.Fatalf("waited in vain for %s; last seen: %s", what, saw)
		}
	}
}

// number parses what a command printed.
func (w *world) number(s string) int {
	w.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		w.t.Errorf("want a number: %v", err)
	}
	return n
}
