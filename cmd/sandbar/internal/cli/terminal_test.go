package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/apitest"
)

// process is a sandbar that a test started.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	// screen is what it wrote; changed is told of more.
	mu      sync.Mutex
	screen  bytes.Buffer
	changed chan struct{}
	read    chan struct{}
	in      io.Writer
}

func sandbarCommand(t *testing.T, address string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Args = append([]string{"sandbar"}, args...)
	cmd.Env = append(os.Environ(), "SANDBAR_SERVER="+address, "HOME="+t.TempDir(), "TERM=xterm", "GORACE="+noExitSleep)
	return cmd
}

func (p *process) follow(r io.Reader) {
	p.changed, p.read = make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(p.read)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			p.mu.Lock()
			p.screen.Write(buf[:n])
			p.mu.Unlock()
			select {
			case p.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
}

// patience is far above what anything on a screen takes, and far below for ever.
const patience = 2 * time.Minute

// expect waits until the text is on the screen, takes everything up to it away,
// and returns what stood before it.
func (p *process) expect(text string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		i := strings.Index(p.screen.String(), text)
		if i >= 0 {
			before := string(p.screen.Next(i + len(text))[:i])
			p.mu.Unlock()
			return before
		}
		have := p.screen.String()
		p.mu.Unlock()
		select {
		case <-p.changed:
		case <-limit:
			p.t.Fatalf("no %q on the screen, which shows %q", text, have)
		}
	}
}

func (p *process) typeIn(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the exit code.
func (p *process) ends(code int) {
	p.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait() // the code says it all
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Errorf("%v: exit code %d (%v), want %d; the screen shows %q", p.cmd.Args, got, p.cmd.ProcessState, code, p.screen.String())
	}
}

// onTerminal starts sandbar on a terminal of 24 by 80; the returned function
// gives the terminal's settings.
func onTerminal(t *testing.T, address string, args ...string) (p *process, term *os.File, settings func() *unix.Termios) {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	p = &process{t: t, cmd: sandbarCommand(t, address, args...), in: ours}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs, theirs, theirs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	settings = func() *unix.Termios {
		tio, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return tio
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.follow(ours)
	t.Cleanup(func() {
		_ = theirs.Close()
		_ = ours.Close()
		<-p.read
	})
	return p, ours, settings
}

// onPipes starts sandbar with its output in a pipe and no input.
func onPipes(t *testing.T, address string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: sandbarCommand(t, address, args...)}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.follow(r)
	t.Cleanup(func() {
		_ = w.Close()
		<-p.read
	})
	return p
}

func TestShellIsATerminal(t *testing.T) {
	b, address := broker(t, nil)
	p, term, settings := onTerminal(t, address, "shell", "--shell", "/bin/sh", "-e", "PS1=% ")
	p.expect("% ")
	during := settings()
	if during.Lflag&unix.ICANON != 0 || during.Lflag&unix.ECHO != 0 {
		t.Error("the terminal is not in raw mode")
	}
	p.typeIn("stty size\r")
	p.expect("24 80")
	if err := pty.Setsize(term, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	// The size arrives with a signal of its own; ask until it is there.
	p.typeIn("while [ \"$(stty size)\" != '40 100' ]; do :; done; echo resi''zed; tty; echo $TERM\r")
	p.expect("resized")
	p.expect("/dev/pts/")
	p.expect("xterm")
	p.typeIn("exit 5\r")
	p.ends(5)
	if after := settings(); after.Lflag&unix.ICANON == 0 || after.Lflag&unix.ECHO == 0 {
		t.Error("the terminal was left in raw mode")
	}
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

// TestCtrlCIsAKeyOnATerminal: it reaches the program inside, not sandbar.
func TestCtrlCIsAKeyOnATerminal(t *testing.T) {
	b, address := broker(t, nil)
	p, _, settings := onTerminal(t, address, "run", "--", "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done")
	p.expect("ready")
	p.typeIn("\x03")
	p.expect("caught")
	p.ends(9)
	if settings().Lflag&unix.ICANON == 0 {
		t.Error("the terminal was left in raw mode")
	}
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

func TestTerminalIsRestoredAfterSignal(t *testing.T) {
	_, address := broker(t, nil)
	p, _, settings := onTerminal(t, address, "run", "--", "sh", "-c", "echo ready; exec sleep 100")
	p.expect("ready")
	before := settings()
	if before.Lflag&unix.ICANON != 0 {
		t.Fatal("the terminal is not in raw mode")
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.ends(128 + int(syscall.SIGTERM))
	if settings().Lflag&unix.ICANON == 0 {
		t.Error("the terminal was left in raw mode")
	}
}

// TestBrokenStreamsAreWhole ends every attachment after a few frames.
func TestBrokenStreamsAreWhole(t *testing.T) {
	b, address := broker(t, func(b *apitest.Broker) { b.CutAfter = 5 })
	in := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	cmd := sandbarCommand(t, address, "run", "--", "sh", "-c", "cat; echo done >&2; exit 4")
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("%v, want exit code 4; stderr %q", err, errOut.String())
	}
	if !bytes.Equal(out.Bytes(), in) {
		t.Errorf("got %d bytes, want the %d sent", out.Len(), len(in))
	}
	if diff := cmp.Diff("done\n", errOut.String()); diff != "" {
		t.Error(diff)
	}
	attached := 0
	for len(b.Calls()) > 0 {
		if <-b.Calls() == "AttachExec" {
			attached++
		}
	}
	if attached < 3 {
		t.Errorf("attached %d times: nothing was cut", attached)
	}
}

// TestManyBytesBothWays moves 64 MiB in and out at once.
func TestManyBytesBothWays(t *testing.T) {
	_, address := broker(t, nil)
	const total = 64 << 20
	cmd := sandbarCommand(t, address, "run", "--", "cat")
	cmd.Stdin = io.LimitReader(&pattern{}, total)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(&checker{t: t}, bufio.NewReaderSize(out, 1<<20))
	if err != nil || n != total {
		t.Errorf("got %d bytes, %v; want %d", n, err, total)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// pattern is an endless stream of the numbers below 251, again and again.
type pattern struct{ at int }

func (s *pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.at)
		s.at = (s.at + 1) % 251
	}
	return len(p), nil
}

type checker struct {
	t  *testing.T
	at int
}

func (c *checker) Write(p []byte) (int, error) {
	for i, b := range p {
		if int(b) != c.at {
			c.t.Errorf("byte %d of a piece is %d, want %d", i, b, c.at)
			return 0, io.ErrUnexpectedEOF
		}
		c.at = (c.at + 1) % 251
	}
	return len(p), nil
}

// TestClosedOutputEndsTheCommand: like `| head -1`, for a command that would run
// for ever.
func TestClosedOutputEndsTheCommand(t *testing.T) {
	b, address := broker(t, nil)
	cmd := sandbarCommand(t, address, "run", "--", "yes")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 128+int(syscall.SIGPIPE) {
		t.Errorf("exit code %d, want that of SIGPIPE", got)
	}
	if n := b.Sandboxes(); n != 0 {
		t.Errorf("%d sandboxes left", n)
	}
}

// TestForwardedPort carries a connection to a listener and back, with a half-close.
func TestForwardedPort(t *testing.T) {
	_, address := broker(t, nil)
	echo, port := echoServer(t)
	defer echo()
	if err := sandbarCommand(t, address, "create", "--name", "sb").Run(); err != nil {
		t.Fatal(err)
	}
	p := onPipes(t, address, "port", "--local", "0", "sb", port)
	p.expect("127.0.0.1:")
	local := p.expect(" -> sb:" + port)
	var carried sync.WaitGroup
	for range 8 {
		carried.Go(func() { carries(t, local) })
	}
	carried.Wait()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.ends(0)
}

func TestAPIKeyIsSent(t *testing.T) {
	b, address := broker(t, nil)
	cmd := sandbarCommand(t, address, "ls")
	cmd.Env = append(cmd.Env, "SANDBAR_API_KEY=sk-test")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff([]string{"Bearer sk-test"}, b.APIKeys()); diff != "" {
		t.Error(diff)
	}
}

func TestDoctorFails(t *testing.T) {
	_, address := broker(t, func(b *apitest.Broker) { b.Broken = true })
	out, err := sandbarCommand(t, address, "doctor").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, want exit code 1", err)
	}
	for _, want := range []string{"failed", "this user may not make user namespaces", "→ sysctl -w user.max_user_namespaces=15000", "cannot make sandboxes"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
