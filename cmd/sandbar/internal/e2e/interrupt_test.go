package e2e_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// interruptAfter runs sandbar and sends it a signal after some time.
func (w *world) interruptAfter(delay time.Duration, s syscall.Signal, args ...string) result {
	w.t.Helper()
	cmd := w.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	timer := time.AfterFunc(delay, func() { _ = cmd.Process.Signal(s) })
	defer timer.Stop()
	_ = cmd.Wait() // the code says it all
	return result{codeOf(cmd.ProcessState), out.String(), errs.String()}
}

// codeOf is the exit code as a shell gives it: before its handlers are in place,
// a process just dies of a signal.
func codeOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// TestInterruptAtAnyMoment: whenever Ctrl-C or SIGTERM comes, the sandbox of
// `run` is gone when the command is, and the code says which signal it was.
func TestInterruptAtAnyMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("ls") // the broker runs; TestInterruptWhileTheBrokerStarts is about its start
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for moment := range 20 {
			delay := time.Duration(moment) * 25 * time.Millisecond
			res := w.interruptAfter(delay, s, "run", "--", "sleep", "60")
			if res.code != 128+int(s) {
				t.Errorf("%v after %v: exit code %d, stderr %q", s, delay, res.code, res.stderr)
			}
			if left := w.list(); len(left) != 0 {
				t.Errorf("%v after %v left %+v; stderr was %q", s, delay, left, res.stderr)
			}
		}
	}
	w.none()
}

func TestInterruptWhileTheBrokerStarts(t *testing.T) {
	t.Parallel()
	for moment := range 8 {
		w := newWorld(t)
		delay := time.Duration(moment) * 20 * time.Millisecond
		if res := w.interruptAfter(delay, syscall.SIGINT, "run", "--", "sleep", "60"); res.code != 130 {
			t.Errorf("after %v: %+v", delay, res)
		}
		w.none()
	}
}

// started is a sandbar that runs in the background.
type started struct {
	*exec.Cmd
	w    *world
	out  *bufio.Reader
	errs bytes.Buffer
	rest bytes.Buffer
}

// start starts sandbar without waiting for its end, and without input.
func (w *world) start(args ...string) *started {
	w.t.Helper()
	return w.startCommand(w.command(args...))
}

// startHeld is start with an input that ends when release is called.
func (w *world) startHeld(args ...string) (s *started, release func()) {
	w.t.Helper()
	cmd := w.command(args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.startCommand(cmd), func() { _ = in.Close() }
}

func (w *world) startCommand(cmd *exec.Cmd) *started {
	w.t.Helper()
	s := &started{Cmd: cmd, w: w}
	s.Stderr = &s.errs
	out, err := s.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	s.out = bufio.NewReaderSize(out, 1<<20)
	if err := s.Start(); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// line waits for a line of output.
func (s *started) line() string {
	s.w.t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil {
		_ = s.Wait() // what it said is complete then
		s.w.t.Fatalf("%q: read a line: %v; stderr %q", s.Args, err, s.errs.String())
	}
	return strings.TrimSuffix(line, "\n")
}

func (s *started) signal(sig syscall.Signal) {
	s.w.t.Helper()
	if err := s.Process.Signal(sig); err != nil {
		s.w.t.Fatal(err)
	}
}

// end reads the rest of the output and waits for the end.
func (s *started) end() result {
	s.w.t.Helper()
	if _, err := s.out.WriteTo(&s.rest); err != nil {
		s.w.t.Errorf("%q: %v", s.Args, err)
	}
	_ = s.Wait() // the code says it all
	return result{codeOf(s.ProcessState), s.rest.String(), s.errs.String()}
}

// TestSignalsReachTheCommand: the command decides what an interrupt means, and a
// second one ends a command that does not listen.
func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start("run", "--", "sh", "-c", `trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.05; done`)
	run.line()
	run.signal(syscall.SIGINT)
	if res := run.end(); res.code != 42 || res.stdout != "caught\n" {
		t.Errorf("a command that handles SIGINT: %+v", res)
	}
	deaf := w.start("run", "--", "sh", "-c", `trap 'echo no' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done`)
	deaf.line()
	deaf.signal(syscall.SIGINT)
	if got := deaf.line(); got != "no" {
		t.Errorf("after one SIGINT it says %q", got)
	}
	deaf.signal(syscall.SIGINT)
	if res := deaf.end(); res.code != 128+9 {
		t.Errorf("a command that ignores SIGINT twice: %+v", res)
	}
	w.none()
}
