package e2e_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// terminal is a sandbar on a terminal.
type terminal struct {
	*started
	screen *os.File
	mu     sync.Mutex
	text   bytes.Buffer
	read   chan struct{}
}

func (w *world) onTerminal(args ...string) *terminal {
	w.t.Helper()
	cmd := w.command(args...)
	ours, theirs, err := pty.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		w.t.Fatal(err)
	}
	term := &terminal{started: &started{Cmd: cmd, w: w}, screen: ours, read: make(chan struct{})}
	go func() {
		defer close(term.read)
		buf := make([]byte, 4096)
		for {
			n, err := ours.Read(buf)
			term.mu.Lock()
			term.text.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	w.t.Cleanup(func() { <-term.read; _ = ours.Close() })
	return term
}

func (s *terminal) types(text string) {
	s.w.t.Helper()
	if _, err := s.screen.WriteString(text); err != nil {
		s.w.t.Fatal(err)
	}
}

// shows waits for a text and takes away all up to it.
func (s *terminal) shows(text string) {
	s.w.t.Helper()
	s.w.eventually("the screen to show "+text, func() (bool, string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := strings.Index(s.text.String(), text)
		if i >= 0 {
			s.text.Next(i + len(text))
		}
		return i >= 0, s.text.String()
	})
}

func (s *terminal) ends(code int) {
	s.w.t.Helper()
	_ = s.Wait() // the code says it all
	if got := codeOf(s.ProcessState); got != code {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.w.t.Errorf("%q: %s, want exit code %d; last on the screen: %q", s.Args, s.ProcessState, code, s.text.String())
	}
}

// TestShellIsATerminal works in a shell as a person does.
func TestShellIsATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.onTerminal("shell")
	s.types("PS1='ready> '\n")
	s.shows("ready> ")
	s.shows("ready> ")
	s.types("stty size; tty; echo $TERM\n")
	s.shows("24 80")
	s.shows("/dev/pts/")
	s.shows("xterm")
	s.shows("ready> ")
	if err := pty.Setsize(s.screen, &pty.Winsize{Rows: 40, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	s.types("until stty size | grep -q '40 132'; do sleep 0.05; done; echo re''sized\n")
	s.shows("resized")
	s.shows("ready> ")
	// One process group from before the word to the end: between two commands of
	// its own a shell may take the signal for itself and go on.
	s.types("sh -c \"echo wait''ing; exec sleep 600\"\n")
	s.shows("waiting")
	s.types("\x03")
	s.shows("ready> ")
	s.types("echo code $?\n")
	s.shows("code 130")
	s.shows("ready> ")
	s.types("(exit 9)\n")
	s.shows("ready> ")
	s.types("\x04")
	s.ends(9)
	w.none()

	sb := w.create()
	s = w.onTerminal("shell", sb, "--shell", "/bin/sh")
	s.types("echo in''side; exit 3\n")
	s.shows("inside")
	s.ends(3)
	if out := w.sh(sb, "echo stays"); out != "stays" {
		t.Errorf("after the shell: %q", out)
	}
}

// TestTerminalThatHangsUp: when the window is closed, the sandbox is gone, also
// if nobody inside wants to know.
func TestTerminalThatHangsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, first := range []string{"true", "trap '' HUP"} {
		s := w.onTerminal("shell")
		s.types(first + "; echo up''and''running\n")
		s.shows("upandrunning")
		if err := s.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.ends(128 + int(syscall.SIGHUP))
		w.none()
	}
}
