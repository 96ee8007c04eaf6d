package pty

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// keyboards are the cases about what is typed at a terminal.
func keyboards() []engine.Case {
	needs := []string{"exec.pty", "exec.stdin"}
	return []engine.Case{
		{
			ID: "pty/ctrl-c", Title: "Byte 3 interrupts the foreground process group.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-004"}, Needs: needs, Cost: 5,
			Run: ctrlC,
		},
		{
			ID: "pty/ctrl-d", Title: "Byte 4 ends the input.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-004"}, Needs: needs, Cost: 5,
			Run: ctrlD,
		},
		{
			ID: "pty/echo", Title: "What is typed is echoed until the program says otherwise, and return ends a line.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-003"}, Needs: needs, Cost: 5,
			Run: echo,
		},
		{
			ID: "pty/raw", Title: "A program that sets its terminal raw gets every byte as it was typed.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-004"}, Needs: needs, Cost: 5,
			Run: raw,
		},
		{
			ID: "pty/paste", Title: "A large paste arrives whole, with and without echo.",
			Profile: engine.PTY, Requirements: []string{"REQ-EXEC-024", "REQ-EXEC-020"}, Needs: needs, Cost: 20, Budget: time.Minute,
			Run: paste,
		},
	}
}

// typed starts a script at a terminal and attaches as who types.
func typed(box *stage.Box, script string) *stage.Attachment {
	spec := at(script)
	spec.Stdin = true
	return box.Start(spec).Attach(stage.Writer())
}

func ctrlC(t *engine.T) {
	box := stage.Create(t)
	a := typed(box, "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.1; done")
	a.Until("ready\r\n")
	a.Input([]byte{3})
	out := a.Wait().Code(9)
	if !bytes.HasSuffix(out.Stdout, []byte("interrupted\r\n")) {
		t.Errorf("the script that handles SIGINT printed %s: want it to end with interrupted", stage.Excerpt(out.Stdout))
	}
	t.Step("a script that does not handle it, waiting for a child")
	// The child says ready itself: a shell that has just made one may catch the
	// signal in both, and wait for the child before it acts on it.
	a = typed(box, `sh -c "echo ready; while :; do :; done"; echo after`)
	a.Until("ready\r\n")
	a.Input([]byte{3})
	out = a.Wait().Killed("SIGINT")
	if bytes.Contains(out.Stdout, []byte("after")) {
		t.Errorf("the script went on after it was interrupted")
	}
}

func ctrlD(t *engine.T) {
	box := stage.Create(t)
	a := typed(box, "stty -echo; echo ready; cat; echo end")
	a.Until("ready\r\n")
	a.Input([]byte("text\n"))
	a.Until("text\r\n")
	a.Input([]byte{4})
	a.Wait().Code(0).Out("ready\r\ntext\r\nend\r\n")
	t.Step("in the middle of a line it hands over what was typed so far")
	a = typed(box, "stty -echo; echo ready; cat; echo end")
	a.Until("ready\r\n")
	a.Input([]byte("part\x04"))
	a.Until("part")
	a.Input([]byte{4})
	a.Wait().Code(0).Out("ready\r\npartend\r\n")
}

func echo(t *engine.T) {
	box := stage.Create(t)
	a := typed(box, `echo ready; read line; echo "got <$line>"; stty -echo; echo again; read line; echo "got <$line>"`)
	a.Until("ready\r\n")
	a.Input([]byte("hello\r"))
	a.Until("again\r\n")
	a.Input([]byte("secret\r"))
	a.Wait().Code(0).Out("ready\r\nhello\r\ngot <hello>\r\nagain\r\ngot <secret>\r\n")
}

func raw(t *engine.T) {
	box := stage.Create(t)
	a := typed(box, "stty raw -echo; echo ready; head -c 5 | od -An -tx1; stty sane; echo end")
	a.Until("ready\n")
	a.Input([]byte{3, 4, '\r', 'x', 127})
	out := a.Wait().Code(0)
	if want := "03 04 0d 78 7f"; !strings.Contains(string(out.Stdout), want) {
		t.Errorf("the program read %s: want the bytes %s", stage.Excerpt(out.Stdout), want)
	}
}

func paste(t *engine.T) {
	var text strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&text, "%06d %s\n", i, strings.Repeat(string(rune('a'+i%26)), 56))
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text.String())))
	box := stage.Create(t)
	for _, mode := range []string{"-echo", "echo"} {
		t.Step("paste %d bytes with stty %s", text.Len(), mode)
		a := typed(box, "stty "+mode+"; echo ready; cat > /tmp/pasted; echo end")
		a.Until("ready\r\n")
		a.Input([]byte(text.String()))
		a.Input([]byte{4})
		a.Until("end\r\n")
		a.Wait().Code(0)
		if got, _, _ := strings.Cut(box.Line("sha256sum < /tmp/pasted"), " "); got != sum {
			t.Errorf("with stty %s, %s bytes arrived with SHA-256 %s: want %d with %s", mode, box.Line("wc -c < /tmp/pasted"), got, text.Len(), sum)
		}
	}
}
