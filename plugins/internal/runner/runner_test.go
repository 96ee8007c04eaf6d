package runner

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// heard is all that a runner said.
type heard struct {
	t     *testing.T
	out   [2]bytes.Buffer
	total [2]int64
	last  saying
	// pid is of the command.
	pid   int64
	lines *bufio.Scanner
}

// runner starts the script for perl, as a shell in a sandbox would, with its ACK
// file in a folder of the test.
func runner(t *testing.T, window int, workdir string, spec *providerv1.ExecSpec) (*heard, *exec.Cmd, string) {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl on this machine, which the runner is written for")
	}
	ack := filepath.Join(t.TempDir(), "ack")
	args, env := Args("exe_1", workdir, spec)
	args[5], args[6] = ack, strconv.Itoa(window) // the plugin's are for the sandbox
	if spec.GetStdin() {
		args[8] = ack + ".in"
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = append(pairs(env), "PATH=/usr/local/bin:/usr/bin:/bin", "FROM=the sandbox", "BOTH=the sandbox")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // most have ended
	h := &heard{t: t, lines: bufio.NewScanner(out)}
	h.lines.Buffer(nil, maxLine)
	return h, cmd, ack
}

// pairs is an environment as package os/exec wants it.
func pairs(env map[string]string) []string {
	var out []string
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	return out
}

// next reads one line; false at the end.
func (h *heard) next() bool {
	h.t.Helper()
	if !h.lines.Scan() {
		return false
	}
	s, err := parse(h.lines.Text())
	if err != nil {
		h.t.Fatal(err)
	}
	h.last = s
	switch s.kind {
	case started:
		h.pid = s.offset
	case output:
		if s.offset != int64(h.out[s.stream].Len()) {
			h.t.Fatalf("stream %d goes on at %d: want %d", s.stream, s.offset, h.out[s.stream].Len())
		}
		h.out[s.stream].Write(s.data)
	case finished:
		if s.offset != int64(h.out[s.stream].Len()) {
			h.t.Fatalf("stream %d ends at %d: want %d", s.stream, s.offset, h.out[s.stream].Len())
		}
		h.total[s.stream] = s.offset + 1
	}
	return true
}

// all reads to the end, and returns how the command ended.
func (h *heard) all() (end saying) {
	h.t.Helper()
	for h.next() {
		if k := h.last.kind; k == exited || k == killed || k == refused || k == failed {
			end = h.last
		}
	}
	return end
}

func TestRunner(t *testing.T) {
	all := make([]byte, 256)
	var octal strings.Builder
	for i := range all {
		all[i] = byte(i)
		fmt.Fprintf(&octal, `\%03o`, i)
	}
	script := func(text string) *providerv1.ExecSpec { return &providerv1.ExecSpec{Argv: []string{"sh", "-c", text}} }
	for _, tc := range []struct {
		name     string
		dir      string
		spec     *providerv1.ExecSpec
		kind     kind
		number   int64
		out, err string
	}{
		{name: "code", spec: script("echo out; echo err >&2; exit 43"), kind: exited, number: 43, out: "out\n", err: "err\n"},
		{name: "code above 128", spec: script("exit 137"), kind: exited, number: 137},
		{name: "signal", spec: script("kill -KILL $$"), kind: killed, number: 9},
		{name: "every byte", spec: &providerv1.ExecSpec{Argv: []string{"printf", octal.String()}}, kind: exited, out: string(all)},
		{name: "argv", spec: &providerv1.ExecSpec{Argv: []string{"printf", "<%s>", "a b", "", "$HOME", "*", "'", "a=b", "--"}}, kind: exited, out: "<a b><><$HOME><*><'><a=b><-->"},
		{name: "folder", dir: "/tmp", spec: script("pwd"), kind: exited, out: "/tmp\n"},
		{name: "no folder", dir: "/no/such", spec: script("echo ran"), kind: refused},
		{name: "no program", spec: &providerv1.ExecSpec{Argv: []string{"no-such-program"}}, kind: exited, number: 127, err: "no-such-program: No such file or directory\n"},
		{name: "no executable", spec: &providerv1.ExecSpec{Argv: []string{"/tmp"}}, kind: exited, number: 126, err: "/tmp: Permission denied\n"},
		{name: "no input", spec: &providerv1.ExecSpec{Argv: []string{"cat"}}, kind: exited},
		{
			name: "environment", kind: exited, out: "the sandbox|the command|a=b\nc|\xff|unset",
			spec: &providerv1.ExecSpec{
				Argv: []string{"sh", "-c", `printf '%s' "$FROM|$BOTH|$LINES_|$BYTE$EMPTY|${SANDBAR_ENV_0-unset}"`},
				Env:  map[string]string{"BOTH": "the command", "LINES_": "a=b\nc", "EMPTY": "", "BYTE": "\xff"},
			},
		},
		{
			name: "an environment of the runner's", kind: exited, out: "/no/such|x|nobody's",
			spec: &providerv1.ExecSpec{
				Argv: []string{"/bin/sh", "-c", `echo -n "$PATH|$PERL5OPT|$SANDBAR_ENV_0"`},
				Env:  map[string]string{"PATH": "/no/such", "PERL5OPT": "x", "SANDBAR_ENV_0": "nobody's"},
			},
		},
		{
			name: "a large environment", kind: exited, out: "100000 100000 100000\n",
			spec: &providerv1.ExecSpec{
				Argv: []string{"sh", "-c", `echo ${#A} ${#B} ${#C}`},
				Env:  map[string]string{"A": strings.Repeat("a", 100_000), "B": strings.Repeat("b", 100_000), "C": strings.Repeat("c", 100_000)},
			},
		},
		{name: "a child that prints late", spec: script("{ sleep 0.2; echo late; } & echo now"), kind: exited, out: "now\nlate\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _, _ := runner(t, 1<<20, tc.dir, tc.spec)
			end := h.all()
			if end.kind != tc.kind || end.offset != tc.number || h.out[0].String() != tc.out || h.out[1].String() != tc.err {
				t.Errorf("ended %+v with %q and %q: want kind %d, %d, %q and %q", end, h.out[0].String(), h.out[1].String(), tc.kind, tc.number, tc.out, tc.err)
			}
			if tc.kind != refused && (h.total[0] == 0 || h.total[1] == 0) {
				t.Error("a stream has no end")
			}
		})
	}
}

// TestRunnerWaits: no more than a window is on its way, and what was taken over lets
// it go on.
func TestRunnerWaits(t *testing.T) {
	const window = 1000
	h, _, ack := runner(t, window, "", &providerv1.ExecSpec{Argv: []string{"seq", "1", "2000"}})
	taken := 0
	for h.next() {
		got := h.out[0].Len()
		if got > taken+window {
			t.Fatalf("%d bytes came, of which %d were taken over: want at most %d more", got, taken, window)
		}
		if got == taken+window { // now it waits
			taken = got
			if err := os.WriteFile(ack, fmt.Appendf(nil, "%d 0\n", taken), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if text := h.out[0].String(); !strings.HasSuffix(text, "\n1999\n2000\n") || taken == 0 {
		t.Errorf("the output ends with %q, and %d bytes were waited for", text[max(0, len(text)-20):], taken)
	}
	if _, err := os.Stat(ack); !os.IsNotExist(err) {
		t.Errorf("the runner left %s: %v", ack, err)
	}
}

// TestRunnerLeaves: when nobody wants more, the runner leaves a command behind that
// still has its streams open.
func TestRunnerLeaves(t *testing.T) {
	h, cmd, ack := runner(t, 1000, "", &providerv1.ExecSpec{Argv: []string{"sh", "-c", "sleep 600 & echo $!"}})
	for h.next() && h.last.kind != exited {
	}
	pid, err := strconv.Atoi(strings.TrimSpace(h.out[0].String()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if left, err := os.FindProcess(pid); err == nil {
			_ = left.Kill() // it is ours
		}
	}()
	if err := os.WriteFile(ack, []byte("close\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for h.next() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the runner ended with %v", err)
	}
}

// TestRunnerIsAsked: a runner that is asked to terminate ends its command.
func TestRunnerIsAsked(t *testing.T) {
	h, cmd, _ := runner(t, 1000, "", &providerv1.ExecSpec{Argv: []string{"sh", "-c", "echo ready; sleep 600; echo never"}})
	for h.out[0].String() != "ready\n" && h.next() {
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for h.next() {
	}
	for deadline := time.Now().Add(30 * time.Second); !dead(t, h.pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives although its runner was asked to terminate", h.pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestRunnerFeeds: input arrives once and in order, its end does too, and what the
// command does not read is not said to be taken over.
func TestRunnerFeeds(t *testing.T) {
	h, _, ack := runner(t, 1<<20, "", &providerv1.ExecSpec{Argv: []string{"sh", "-c", "head -c 5; cat; echo end"}, Stdin: true})
	piece := func(n int, content string) {
		t.Helper()
		for _, file := range []string{content[:len(content)/2], content} { // half of it is seen first
			if err := os.WriteFile(fmt.Sprintf("%s.in.%d", ack, n), []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := make([]byte, 100_000) // more than a pipe holds
	for i := range all {
		all[i] = byte(i * i)
	}
	piece(0, "5\nhello")
	piece(1, "100000\n"+string(all))
	piece(2, "close\n")
	var took []int64
	for h.next() {
		if h.last.kind == taken || h.last.kind == unread {
			took = append(took, h.last.offset)
		}
	}
	if got, want := h.out[0].String(), "hello"+string(all)+"end\n"; got != want {
		t.Errorf("%d bytes came out: want the %d that went in, and the end", len(got), len(want))
	}
	if !slices.Equal(took, []int64{5, 100_005}) {
		t.Errorf("it said %d: want 5 and 100005", took)
	}
	if left, _ := filepath.Glob(ack + "*"); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	t.Log("a command that reads nothing")
	h, _, ack = runner(t, 1<<20, "", &providerv1.ExecSpec{Argv: []string{"sh", "-c", "exec < /dev/null; echo start; sleep 0.3; exit 5"}, Stdin: true})
	for h.out[0].String() != "start\n" && h.next() {
	}
	piece(0, "5\nhello")
	if end := h.all(); end.kind != exited || end.offset != 5 {
		t.Errorf("it ended with %+v: want exit code 5", end)
	}
}

// dead reports whether a process has ended, if nobody has waited for it.
func dead(t *testing.T, pid int64) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	_, after, ok := strings.Cut(string(stat), ") ")
	return ok && strings.HasPrefix(after, "Z")
}

func TestParse(t *testing.T) {
	for _, line := range []string{"", "o", "o 1", "o x AA==", "o -1 AA==", "o 1 ???", "O", "exited", "exited x", "killed -1", "hello world", "E 1 2"} {
		if s, err := parse(line); err == nil && (line != "o 1" || s.kind != output || len(s.data) > 0) {
			t.Errorf("%q is read as %+v: want it refused", line, s)
		}
	}
	s, err := parse("e 7 AP8=")
	if err != nil || s.kind != output || s.stream != 1 || s.offset != 7 || !bytes.Equal(s.data, []byte{0, 255}) {
		t.Errorf("a line of standard error is read as %+v, %v", s, err)
	}
}
