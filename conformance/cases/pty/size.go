package pty

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// sizes are the cases about a terminal's size.
func sizes() []engine.Case {
	needs := []string{"exec.pty"}
	return []engine.Case{
		{
			ID: "pty/initial-size", Title: "The program sees the initial size from its first instruction, every time.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-001"}, Needs: needs, Cost: 15, Budget: time.Minute,
			Run: initialSize,
		},
		{
			ID: "pty/resize", Title: "A resize reaches the terminal, and the program gets SIGWINCH.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-002"}, Needs: needs, Cost: 5,
			Run: resize,
		},
		{
			ID: "pty/resize-order", Title: "The resize with the highest seq wins, in whatever order they arrive.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-002"}, Needs: needs, Cost: 10,
			Run: resizeOrder,
		},
		{
			ID: "pty/reattach-size", Title: "A terminal keeps its size when readers come and go.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-002", "REQ-EXEC-033"}, Needs: needs, Cost: 10,
			Run: reattachSize,
		},
	}
}

func initialSize(t *engine.T) {
	box := stage.Create(t)
	for i := range uint32(20) {
		spec := stage.Argv("stty", "size")
		spec.Terminal = &providerv1.Terminal{Rows: 20 + i, Cols: 80 + 3*i}
		box.Start(spec).Wait().Code(0).Out(fmt.Sprintf("%d %d\r\n", 20+i, 80+3*i))
	}
}

// sized is a script that says its terminal's size all the time, and when it
// changes.
const sized = `trap 'echo "changed to $(stty size)"' WINCH; echo ready; while :; do stty size; sleep 0.1; done`

// several is about ten lines of what sized prints.
const several = 80

func resize(t *engine.T) {
	box := stage.Create(t)
	a := box.Start(at(sized)).Attach()
	a.Until("ready\r\n24 80\r\n")
	a.Resize(1, 50, 120)
	a.Until("changed to 50 120\r\n")
	a.Resize(2, 10, 200)
	a.Until("changed to 10 200\r\n")
}

func resizeOrder(t *engine.T) {
	box := stage.Create(t)
	a := box.Start(at(sized)).Attach()
	a.Until("ready\r\n")
	a.Resize(5, 50, 120)
	a.Until("50 120\r\n")
	t.Step("an older one arrives late")
	a.Resize(3, 11, 22)
	a.Resize(5, 11, 22)
	a.Grows(several)
	never(t, a, "11 22", "an older resize, which must be ignored")
	a.Resize(6, 60, 130)
	a.Until("60 130\r\n")
	never(t, a, "11 22", "an older resize, which must be ignored")
}

func reattachSize(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(at(sized))
	a := c.Attach()
	a.Until("ready\r\n")
	a.Resize(5, 50, 120)
	a.Until("50 120\r\n")
	a.Detach()
	b := c.Attach(stage.From(a.Next(), 0))
	b.Grows(several)
	never(t, b, "24 80", "the size that it had at first")
	t.Step("an older resize, by another attachment")
	b.Resize(4, 11, 22)
	b.Grows(several)
	never(t, b, "11 22", "an older resize, which must be ignored")
	b.Resize(9, 60, 130)
	b.Until("60 130\r\n")
}

func never(t *engine.T, a *stage.Attachment, text, why string) {
	if strings.Contains(string(a.Stdout()), text) {
		t.Errorf("the terminal's size became %s: that is %s", text, why)
	}
}
