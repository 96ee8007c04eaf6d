package cli_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// TestTopOnATerminal: it is drawn anew as things change, and Ctrl-C ends it and
// gives the terminal back.
func TestTopOnATerminal(t *testing.T) {
	_, address := broker(t, nil)
	p, term, settings := onTerminal(t, address, "top", "--every", "50ms")
	before := *settings()
	p.expect(enterScreen)
	p.expect("PROVIDER  PLUGIN  STARTS  CIRCUIT  STREAMS  SANDBOXES")
	p.expect("fake      ready   1       closed   0        none")
	if err := sandbarCommand(t, address, "create").Run(); err != nil {
		t.Fatal(err)
	}
	p.expect("1 running")
	p.expect("CREATE/S")

	// What does not fit is cut, not wrapped.
	if err := pty.Setsize(term, &pty.Winsize{Rows: 6, Cols: 20}); err != nil {
		t.Fatal(err)
	}
	p.expect("PROVIDER  PLUGIN  ST\x1b[K")
	p.expect("fake      ready   1 \x1b[K")
	frame := p.expect("\x1b[J")
	if n := strings.Count(frame, "\n"); n != 2 {
		t.Errorf("below are %d lines on a terminal of 6: %q", n, frame)
	}
	p.typeIn("\x03")
	p.expect(leaveScreen)
	p.ends(0)
	if after := *settings(); after.Lflag != before.Lflag || after.Lflag&unix.ICANON == 0 {
		t.Error("the terminal is not as it was")
	}
}

// TestTopIsTerminated: another signal gives the terminal back too, and is told by
// the exit code.
func TestTopIsTerminated(t *testing.T) {
	_, address := broker(t, nil)
	p, _, _ := onTerminal(t, address, "top")
	p.expect(enterScreen)
	p.expect("fake")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.expect(leaveScreen)
	p.ends(128 + int(syscall.SIGTERM))
}

// TestTopOutlivesTheBroker: while it is away, that is told below what it said last.
func TestTopOutlivesTheBroker(t *testing.T) {
	b, address := broker(t, nil)
	p, _, _ := onTerminal(t, address, "top", "--every", "50ms")
	p.expect("fake")
	b.Stop()
	p.expect("cannot reach the broker")
	p.typeIn("\x03")
	p.expect(leaveScreen)
	p.ends(0)
}

func TestTopInAPipe(t *testing.T) {
	_, address := broker(t, nil)
	out, err := sandbarCommand(t, address, "top").CombinedOutput()
	if err != nil || strings.Contains(string(out), "\x1b") || strings.Count(string(out), "fake ") != 2 {
		t.Errorf("%v: %q", err, out)
	}
}
