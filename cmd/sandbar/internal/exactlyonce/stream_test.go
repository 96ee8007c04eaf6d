package exactlyonce_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// size of what is sent: more than every buffer on the way.
const size = 6 << 20

// TestEveryByteOnce: the provider cuts each stream after a few frames, and the
// client's connection is cut at random bytes; in and out, every byte arrives once.
func TestEveryByteOnce(t *testing.T) {
	for _, drops := range []int{0, 4} {
		t.Run(fmt.Sprintf("drops=%d", drops), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, vendors{"cutter": {}})
			w.start("")
			sent := w.upload()
			out := w.reading("exec", "box", "--", "cat", "/tmp/sent")
			for _, at := range points(drops) {
				out.to(at)
				out.line.cut()
			}
			if code := out.end(); code != 0 || out.errs.String() != "" {
				t.Errorf("exit code %d, stderr %q", code, out.errs.String())
			}
			same(t, out.got.Bytes(), sent)
		})
	}
}

// TestCommandThatDied: the fake's commands live in its plugin. When that dies, or
// the broker with it, what was shown is a beginning, the end is never a success,
// and what is missing is said.
func TestCommandThatDied(t *testing.T) {
	for _, victim := range []string{"broker", "plugin"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, vendors{"fake": {}})
			w.start("")
			sent := w.upload()
			out := w.reading("exec", "box", "--", "cat", "/tmp/sent")
			out.to(points(1)[0])
			if victim == "broker" {
				w.kill()
				w.start("")
			} else {
				w.killPlugin()
			}
			code := out.end()
			if code != 125 || !bytes.HasPrefix(sent, out.got.Bytes()) || out.got.Len() == size {
				t.Errorf("exit code %d, %d bytes, stderr %q", code, out.got.Len(), out.errs.String())
			}
			if want := fmt.Sprintf("shown up to byte %d of standard output", out.got.Len()); !strings.Contains(out.errs.String(), want) {
				t.Errorf("stderr is %q, want %q in it", out.errs.String(), want)
			}
		})
	}
}

var missing = regexp.MustCompile(`(\d+) bytes of standard output and 0 of standard error are missing above; the command itself ended with code 0`)

// TestMissingBytesAreCounted: what a provider has lost is not passed over.
func TestMissingBytesAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vendors{"loser": {}})
	w.start("")
	sent := w.upload()
	out := w.reading("exec", "box", "--", "cat", "/tmp/sent")
	code := out.end()
	m := missing.FindStringSubmatch(out.errs.String())
	if code != 123 || m == nil {
		t.Fatalf("exit code %d, stderr %q", code, out.errs.String())
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 || n%1000 != 0 || n+out.got.Len() != len(sent) {
		t.Errorf("%d bytes are shown and %d said to be missing, of %d", out.got.Len(), n, len(sent))
	}
}

// points are random, sorted positions in what is sent, drawn anew each time.
func points(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = rand.N(size*3/4) + 1
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if sha256.Sum256(got) != sha256.Sum256(want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%d bytes arrived, want %d; they differ from byte %d on", len(got), len(want), at)
	}
}

// upload makes a sandbox named box and sends random bytes into it, through
// `sandbar exec`; what arrived must be the same.
func (w *world) upload() []byte {
	w.t.Helper()
	if _, err := w.api.CreateSandbox(w.t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "box"})); err != nil {
		w.t.Fatal(err)
	}
	src := rand.NewChaCha8([32]byte(bytes.Repeat([]byte{byte(rand.Uint32())}, 32)))
	sent := make([]byte, size)
	_, _ = src.Read(sent) // never fails
	cmd := w.sandbar(filepath.Join(w.dir, "a.sock"), "exec", "box", "--", "sh", "-c", "cat > /tmp/sent; wc -c < /tmp/sent")
	cmd.Stdin = bytes.NewReader(sent)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != strconv.Itoa(size) {
		w.t.Fatalf("upload: %v, %q, want %d", err, out, size)
	}
	return sent
}

func (w *world) sandbar(socket string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), filepath.Join(binaries, "sandbar"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "SANDBAR_SERVER=unix://" + socket}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (w *world) killPlugin() {
	w.t.Helper()
	res, err := w.api.Admin.ListProviders(w.t.Context(), connect.NewRequest(&brokerv1.ListProvidersRequest{}))
	if err != nil || res.Msg.GetProviders()[0].GetPid() == 0 {
		w.t.Fatalf("%v, %v", res, err)
	}
	if err := syscall.Kill(int(res.Msg.GetProviders()[0].GetPid()), syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

// reading is a command of the CLI whose output is read step by step, over a line
// that can be cut.
type reading struct {
	w    *world
	cmd  *exec.Cmd
	out  io.ReadCloser
	got  bytes.Buffer
	errs bytes.Buffer
	line *line
}

func (w *world) reading(args ...string) *reading {
	w.t.Helper()
	r := &reading{w: w, line: w.line()}
	r.cmd = w.sandbar(r.line.socket, args...)
	r.cmd.Stderr = &r.errs
	var err error
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// to reads up to a position.
func (r *reading) to(at int) {
	r.w.t.Helper()
	if _, err := io.CopyN(&r.got, r.out, int64(at-r.got.Len())); err != nil {
		r.w.t.Errorf("read to byte %d: %v; stderr %q", at, err, r.errs.String())
	}
}

// end reads the rest and returns the exit code.
func (r *reading) end() int {
	r.w.t.Helper()
	_, err := io.Copy(&r.got, r.out)
	var exit *exec.ExitError
	if werr := r.cmd.Wait(); err != nil || werr != nil && !errors.As(werr, &exit) {
		r.w.t.Errorf("%v, %v", err, werr)
	}
	return r.cmd.ProcessState.ExitCode()
}

// line passes connections on to the broker until it is cut, and new ones after
// that.
type line struct {
	socket string
	mu     sync.Mutex
	to     string // the broker's socket
	open   map[net.Conn]bool
}

// lead passes later connections on to another broker.
func (l *line) lead(to *world) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = filepath.Join(to.dir, "a.sock")
}

func (w *world) line() *line {
	w.t.Helper()
	l := &line{socket: filepath.Join(w.dir, "l.sock"), to: filepath.Join(w.dir, "a.sock"), open: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", l.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.pass(c) })
		}
	})
	w.t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		all.Wait()
	})
	return l
}

func (l *line) pass(c net.Conn) {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	b, err := net.Dial("unix", to)
	if err != nil {
		_ = c.Close()
		return
	}
	l.mu.Lock()
	l.open[c], l.open[b] = true, true
	l.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{c, b}, {b, c}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // how it ends is the other side's business
			_ = c.Close()
			_ = b.Close()
		})
	}
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	delete(l.open, b)
}

// cut closes all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		_ = c.Close()
	}
}
