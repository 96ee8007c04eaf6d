package e2e_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strings"
	"testing"
)

// TestCommandOne is the first command of the README: a real program inside of
// gVisor, both streams apart and the command's own exit code.
func TestCommandOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if out := w.ok("run", "--", "dmesg"); !strings.Contains(out, "Starting gVisor") {
		t.Errorf("dmesg says %q", out)
	}
	res := w.run("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
	if want := (result{7, "out\n", "err\n"}); res != want {
		t.Errorf("got %+v, want %+v", res, want)
	}
	if res := w.feed("hi\n", "run", "--", "cat"); res != (result{0, "hi\n", ""}) {
		t.Errorf("cat: %+v", res)
	}
	w.none()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	for _, tc := range []struct {
		code int
		says string
		argv []string
	}{
		{0, "", []string{"true"}},
		{1, "", []string{"false"}},
		{255, "", []string{"sh", "-c", "exit 255"}},
		{127, "no-such-program", []string{"no-such-program"}},
		{127, "/no/such/program", []string{"/no/such/program"}},
		{126, "/etc/passwd", []string{"/etc/passwd"}},
		{126, "/etc", []string{"/etc"}},
		{128 + 9, "", []string{"sh", "-c", "kill -9 $$"}},
		{128 + 15, "", []string{"sh", "-c", "kill -TERM $$"}},
		{128 + 11, "", []string{"sh", "-c", "kill -SEGV $$"}},
		{125, "no command", []string{""}},
	} {
		w.wants(tc.code, tc.says, append([]string{"exec", sb, "--"}, tc.argv...)...)
	}
	w.wants(125, "no-such-sandbox", "exec", "no-such-sandbox", "--", "true")
	w.wants(127, "no-such-program", "run", "--", "no-such-program")
	w.wants(126, "/etc/passwd", "run", "--", "/etc/passwd")
	w.ok("rm", sb)
	w.none()
}

// TestRandomBytesBothWays sends 64 MiB in and out at once and compares digests.
func TestRandomBytesBothWays(t *testing.T) {
	w := newWorld(t)
	const size = 64 << 20
	sent, back, errs := sha256.New(), &sum{Hash: sha256.New()}, &sum{Hash: sha256.New()}
	cmd := w.command("run", "--", "sh", "-c", "tee /dev/stderr")
	cmd.Stdin = io.TeeReader(io.LimitReader(rand.Reader, size), sent)
	cmd.Stdout, cmd.Stderr = back, errs
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]*sum{"stdout": back, "stderr": errs} {
		if got.n != size || fmt.Sprintf("%x", got.Sum(nil)) != fmt.Sprintf("%x", sent.Sum(nil)) {
			t.Errorf("%s: %d bytes of digest %x, want %d of %x", name, got.n, got.Sum(nil), size, sent.Sum(nil))
		}
	}
	w.none()
}

// sum is a digest that counts.
type sum struct {
	hash.Hash
	n int
}

func (s *sum) Write(b []byte) (int, error) {
	s.n += len(b)
	return s.Hash.Write(b)
}

// TestInputThatNobodyReads must not keep a command from ending.
func TestInputThatNobodyReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := w.command("run", "--", "sh", "-c", "head -c 10 | wc -c; exit 3")
	cmd.Stdin = rand.Reader
	if res := w.finish(cmd); res.code != 3 || strings.TrimSpace(res.stdout) != "10" {
		t.Errorf("got %+v", res)
	}
	w.none()
}
