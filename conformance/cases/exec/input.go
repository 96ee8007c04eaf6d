package exec

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// inputs are the cases about what a command reads.
func inputs() []engine.Case {
	stdin := []string{"exec.stdin"}
	return []engine.Case{
		{
			ID: "exec/stdin-echo", Title: "What is sent to standard input arrives once and in order, byte for byte.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-020"}, Needs: stdin, Cost: 5,
			Run: stdinEcho,
		},
		{
			ID: "exec/stdin-half-close", Title: "After the end of its input a command goes on, and its output still arrives.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-021"}, Needs: stdin, Cost: 5,
			Run: stdinHalfClose,
		},
		{
			ID: "exec/stdin-absent", Title: "Without stdin in its spec a command reads end-of-file at once.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-022"}, Cost: 5,
			Run: stdinAbsent,
		},
		{
			ID: "exec/stdin-acknowledged", Title: "Input is acknowledged as far as the command took it over.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-020"}, Needs: stdin, Cost: 10,
			Run: stdinAcknowledged,
		},
		{
			ID: "exec/stdin-unread", Title: "A command that does not read its input ends as if there were none.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-024", "REQ-EXEC-032"}, Needs: stdin, Cost: 5,
			Run: stdinUnread,
		},
		{
			ID: "exec/duplex", Title: "Large input and large output at the same time do not wait for each other.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-024", "REQ-EXEC-020"}, Needs: stdin, Cost: 30, Budget: 5 * time.Minute,
			Run: duplex,
		},
	}
}

// fed starts a script that reads, and attaches as its writer.
func fed(box *stage.Box, script string) (*stage.Command, *stage.Attachment) {
	spec := stage.Script(script)
	spec.Stdin = true
	c := box.Start(spec)
	return c, c.Attach(stage.Writer())
}

func stdinEcho(t *engine.T) {
	box := stage.Create(t)
	_, a := fed(box, "cat")
	a.Input([]byte("one\n"))
	a.Until("one\n")
	t.Step("the answer came before the end; now all bytes, in pieces of every size")
	want := []byte("one\n")
	for n := range 64 {
		piece := make([]byte, 0, n)
		for i := range n {
			piece = append(piece, byte(n*i))
		}
		a.Input(piece)
		want = append(want, piece...)
	}
	a.CloseInput()
	a.Wait().Code(0).Out(string(want)).Err("")
}

func stdinHalfClose(t *engine.T) {
	box := stage.Create(t)
	_, a := fed(box, "sort; echo sorted; echo err >&2; sleep 0.2; echo later; exit 4")
	a.Input([]byte("b\nc\na\n"))
	a.CloseInput()
	a.Wait().Code(4).Out("a\nb\nc\nsorted\nlater\n").Err("err\n")
	t.Step("an end without any input")
	_, a = fed(box, "cat; echo end")
	a.CloseInput()
	a.Wait().Code(0).Out("end\n")
}

func stdinAbsent(t *engine.T) {
	box := stage.Create(t)
	box.Sh("cat; echo end").Code(0).Out("end\n")
	box.Sh("read line; echo \"$? $line\"").Code(0).Out("1 \n")
}

func stdinAcknowledged(t *engine.T) {
	box := stage.Create(t)
	c, a := fed(box, "head -n 1; while [ ! -e /tmp/go ]; do sleep 0.1; done; cat > /dev/null; echo end")
	a.Input([]byte("line\n"))
	a.AwaitTaken(5)
	a.Until("line\n")
	if taken := a.Taken(); taken != 5 {
		t.Errorf("standard input is acknowledged up to %d: want 5, which is all that was sent", taken)
	}
	if got := c.Get().GetStdinNext(); got != 5 {
		t.Errorf("GetExec says that %d bytes of standard input were taken over: want 5", got)
	}
	t.Step("a whole window may be sent although nothing is read")
	window := bytes.Repeat([]byte("x"), handshake.StdinWindowBytes)
	a.Input(window)
	box.Sh("echo > /tmp/go").Code(0)
	a.AwaitTaken(5 + int64(len(window)))
	a.CloseInput()
	a.Wait().Code(0).Out("line\nend\n")
	if got, want := c.Get().GetStdinNext(), 5+int64(len(window)); got != want {
		t.Errorf("GetExec says that %d bytes of standard input were taken over: want %d", got, want)
	}
}

func stdinUnread(t *engine.T) {
	box := stage.Create(t)
	_, a := fed(box, "exec < /dev/null; echo start; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo end; exit 5")
	a.Until("start\n")
	t.Step("it closed its input; send more than any pipe holds, within the window")
	for range 4 {
		a.Input(bytes.Repeat([]byte("x"), 128<<10))
	}
	box.Sh("echo > /tmp/go").Code(0)
	a.Wait().Code(5).Out("start\nend\n")
	t.Step("input for a command that has ended")
	_, a = fed(box, "exit 6")
	exit := a.AwaitExit()
	a.Input([]byte("too late"))
	a.CloseInput()
	a.Wait().Code(6)
	if code(exit) != 6 {
		t.Errorf("Exit says %s: want exit code 6", stage.ExitText(exit))
	}
}

func duplex(t *engine.T) {
	size := stage.BulkMiB(t) << 20
	box := stage.Create(t)
	spec := stage.Argv("cat")
	spec.Stdin = true
	a := box.Start(spec).Attach(stage.Writer(), stage.Hashed())
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(t.Rand().Uint32())
	}
	source, sent := rand.NewChaCha8(seed), sha256.New()
	start := time.Now()
	piece := make([]byte, handshake.FrameBytes)
	for left := size; left > 0; left -= len(piece) {
		_, _ = source.Read(piece) // never fails
		_, _ = sent.Write(piece)
		a.Input(bytes.Clone(piece))
	}
	a.CloseInput()
	out := a.Wait().Code(0)
	t.Measure("exec.duplex", time.Since(start))
	if n := out.Done.GetStdoutTotal(); n != int64(size) || !bytes.Equal(out.Sum, sent.Sum(nil)) {
		t.Errorf("%d bytes came back with SHA-256 %x: want %d with %x", n, out.Sum, size, sent.Sum(nil))
	}
}
