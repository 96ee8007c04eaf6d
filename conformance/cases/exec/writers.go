package exec

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// writers are the cases about input over several attachments.
func writers() []engine.Case {
	stdin := []string{"exec.stdin"}
	return []engine.Case{
		{
			ID: "attach/stdin-exactly-once", Title: "Input that is sent again after a reconnect arrives once.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-020"}, Needs: stdin, Cost: 5,
			Run: exactlyOnce,
		},
		{
			ID: "attach/stdin-gap", Title: "Input behind a gap is refused and does not reach the command, which runs on.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-020"}, Needs: stdin, Cost: 5,
			Run: gap,
		},
		{
			ID: "attach/stdin-takeover", Title: "A newer writer takes over, and the older one's input is refused.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-023"}, Needs: stdin, Cost: 5,
			Run: takeover,
		},
		{
			ID: "attach/stdin-reader", Title: "An attachment that did not ask for stdin cannot send any.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-023"}, Needs: stdin, Cost: 5,
			Run: readerSends,
		},
		{
			ID: "attach/stdin-stays-open", Title: "A writer that detaches does not end the command's input.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-033", "REQ-EXEC-021"}, Needs: stdin, Cost: 5,
			Run: staysOpen,
		},
	}
}

func exactlyOnce(t *engine.T) {
	box := stage.Create(t)
	c, a := fed(box, "cat")
	a.Input([]byte("0123456789"))
	a.AwaitTaken(10)
	a.Detach()
	t.Step("a new writer sends the second half again, and more")
	b := c.Attach(stage.Writer())
	if next := b.Opened().GetStdinNext(); next != 10 {
		t.Errorf("Opened says stdin_next %d: want 10, which was acknowledged", next)
	}
	b.InputAt(0, []byte("0123"))
	b.InputAt(5, []byte("56789abcde"))
	b.InputAt(12, []byte("cdefgh"))
	b.InputAt(18, []byte("ij"))
	b.CloseInput()
	b.Wait().Code(0).Out("0123456789abcdefghij")
}

func gap(t *engine.T) {
	box := stage.Create(t)
	c, a := fed(box, "cat; echo end")
	a.Input([]byte("one\n"))
	a.AwaitTaken(4)
	a.InputAt(6, []byte("lost\n"))
	_ = a.Faulted("input at offset 6 after 4 bytes", fieldInvalid)
	t.Step("the command knows nothing of it")
	b := c.Attach(stage.Writer())
	if next := b.Opened().GetStdinNext(); next != 4 {
		t.Errorf("Opened says stdin_next %d: want 4", next)
	}
	b.Input([]byte("two\n"))
	b.CloseInput()
	b.Wait().Code(0).Out("one\ntwo\nend\n")
}

func takeover(t *engine.T) {
	box := stage.Create(t)
	c, older := fed(box, "cat")
	older.Input([]byte("older\n"))
	older.AwaitTaken(6)
	newer := c.Attach(stage.Writer())
	newer.Input([]byte("newer\n"))
	newer.Until("older\nnewer\n")
	older.InputAt(12, []byte("late\n"))
	_ = older.Faulted("input of a writer that was replaced", objectInUse)
	t.Step("the newer one goes on")
	newer.Input([]byte("end\n"))
	newer.CloseInput()
	newer.Wait().Code(0).Out("older\nnewer\nend\n")
}

func readerSends(t *engine.T) {
	box := stage.Create(t)
	c, writer := fed(box, "cat")
	reader := c.Attach()
	reader.InputAt(0, []byte("stolen\n"))
	_ = reader.Faulted("input of an attachment that did not ask for stdin", fieldInvalid)
	writer.Input([]byte("mine\n"))
	writer.CloseInput()
	writer.Wait().Code(0).Out("mine\n")
}

func staysOpen(t *engine.T) {
	box := stage.Create(t)
	c, a := fed(box, "cat; echo end")
	a.Input([]byte("one\n"))
	a.Until("one\n")
	a.Detach()
	reader := c.Attach()
	box.Ticks(10)
	if out := string(reader.Stdout()); out != "one\n" && out != "" {
		t.Errorf("after its writer detached the command printed %s: want it to wait for input", stage.Excerpt(reader.Stdout()))
	}
	b := c.Attach(stage.Writer())
	b.Input([]byte("two\n"))
	b.CloseInput()
	b.Wait().Code(0).Out("one\ntwo\nend\n")
	reader.Wait().Code(0).Out("one\ntwo\nend\n")
}
