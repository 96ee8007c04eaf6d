package observation_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/programs"
)

// patience bounds everything a test waits for; a busy machine fails no test.
const patience = 90 * time.Second

// binaries is the folder of sandbar and the fake provider.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ob")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := programs.Build(dir, "0.0.0-observed", "./cmd/sandbar", "./cmd/sandbar/sandbar-broker", "./cmd/sandbar-provider-fake"); err != nil {
		panic(err)
	}
	binaries = dir
	return m.Run()
}

// broker is a `sandbar serve` of the fake provider.
type broker struct {
	t      *testing.T
	dir    string
	socket string
	// env is the environment of the CLI, beside what it needs to run.
	env []string
	cmd *exec.Cmd
	// ended is closed when the process is gone; err is valid then.
	ended chan struct{}
	err   error

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when there is another line
}

// serve starts a broker with text added to its configuration. It ends with the
// test.
func serve(t *testing.T, text string) *broker {
	t.Helper()
	dir, err := os.MkdirTemp("", "ob") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &broker{t: t, dir: dir, socket: filepath.Join(dir, "s"), ended: make(chan struct{}), more: make(chan struct{})}
	config := fmt.Sprintf("listen: {unix: %s}\nstate_dir: %s\nruntime_dir: %s\nproviders: [{name: fake}]\nlog: {format: json, level: debug}\n%s",
		b.socket, filepath.Join(dir, "st"), filepath.Join(dir, "r"), text)
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

// restart ends the broker by a signal and starts another in its place.
func (b *broker) restart(s os.Signal) *broker {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
	<-b.ended
	next := &broker{t: b.t, dir: b.dir, socket: b.socket, env: b.env, ended: make(chan struct{}), more: make(chan struct{})}
	next.start()
	return next
}

func (b *broker) start() {
	t := b.t
	t.Helper()
	b.cmd = exec.Command(filepath.Join(binaries, "sandbar"), "serve", "--config", filepath.Join(b.dir, "config.yaml"))
	b.cmd.Env = []string{"HOME=" + b.dir, "XDG_RUNTIME_DIR=" + b.dir, "PATH=" + os.Getenv("PATH")}
	logs, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go b.read(bufio.NewScanner(logs))
	t.Cleanup(b.stop)
	b.await("server is ready")
}

// read takes the log until the process closes it, then waits for the process.
func (b *broker) read(lines *bufio.Scanner) {
	for lines.Scan() {
		b.mu.Lock()
		b.lines = append(b.lines, lines.Text())
		close(b.more)
		b.more = make(chan struct{})
		b.mu.Unlock()
	}
	b.err = b.cmd.Wait()
	close(b.ended)
}

// await returns the first line of the log that holds text.
func (b *broker) await(text string) string {
	b.t.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		for _, line := range b.lines {
			if strings.Contains(line, text) {
				b.mu.Unlock()
				return line
			}
		}
		more := b.more
		b.mu.Unlock()
		select {
		case <-more:
		case <-b.ended:
			b.t.Fatalf("the broker ended without %q: %v\n%s", text, b.err, strings.Join(b.lines, "\n"))
		case <-limit:
			b.t.Fatalf("the broker does not log %q", text)
		}
	}
}

// stop ends the broker as an operator would.
func (b *broker) stop() {
	select {
	case <-b.ended:
		return
	default:
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(patience):
		_ = b.cmd.Process.Kill()
		<-b.ended
		b.t.Error("the broker had to be killed")
	}
	if b.t.Failed() {
		b.t.Logf("the broker's log:\n%s", strings.Join(b.lines, "\n"))
	}
}

// sandbar runs the CLI against the broker and returns its output and exit code.
func (b *broker) sandbar(args ...string) (stdout string, code int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "sandbar"), append([]string{"--server", "unix://" + b.socket}, args...)...)
	cmd.Env = append([]string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}, b.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("sandbar %q: %v", args, err)
	}
	if errs.Len() > 0 {
		b.t.Logf("sandbar %q: %s", args, errs.String())
	}
	return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
}

// ok is sandbar for what must succeed.
func (b *broker) ok(args ...string) string {
	b.t.Helper()
	out, code := b.sandbar(args...)
	if code != 0 {
		b.t.Fatalf("sandbar %q: exit code %d", args, code)
	}
	return out
}
