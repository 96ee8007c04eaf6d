package exec

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// paces are the cases about output that nobody takes.
func paces() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/backpressure", Title: "A command whose output nobody takes stands still, and loses nothing.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-013"}, Cost: 10, Budget: time.Minute,
			Run: backpressure,
		},
		{
			ID: "exec/backpressure-unacknowledged", Title: "A reader that does not acknowledge holds the command, and an acknowledgement lets it go on.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-013"}, Cost: 10, Budget: time.Minute,
			Run: unacknowledged,
		},
		{
			ID: "exec/drop-oldest", Title: "Under DROP_OLDEST a command never blocks, and Done counts what is missing.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-013", "REQ-EXEC-012"}, Cost: 10, Budget: time.Minute,
			Run: dropOldest,
		},
		{
			ID: "exec/drop-oldest-reader", Title: "Under DROP_OLDEST a reader that is slow misses the oldest bytes, and only those.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-013", "REQ-EXEC-011"}, Cost: 10, Budget: time.Minute,
			Run: dropOldestReader,
		},
	}
}

func backpressure(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(endless())
	at := standsStill(t, box, c)
	e := c.Get()
	if e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING || e.GetStdoutOldest() != 0 {
		t.Errorf("after %d bytes that nobody took, the command is %s and its oldest byte is %d: want RUNNING and 0", at, state(e), e.GetStdoutOldest())
	}
	t.Step("it stands still after %d bytes; read on", at)
	a := c.Attach()
	a.Grows(at + 2<<20)
	a.Detach()
	wantEndless(t, a.Stdout())
	t.Step("without a reader it stands still again")
	if again := standsStill(t, box, c); again < at+2<<20 {
		t.Errorf("the command printed %d bytes in all: want at least the %d that were read", again, at+2<<20)
	}
}

func unacknowledged(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(endless())
	a := c.Attach(stage.Silent())
	at := standsStill(t, box, c)
	t.Step("it stands still after %d bytes; acknowledge", at)
	a.Acknowledge(a.Next(), 0)
	stage.Eventually(t, stage.Patience(t), "the command to go on after an acknowledgement", func(context.Context) bool {
		return c.Get().GetStdoutTotal() > at
	})
	standsStill(t, box, c)
	a.Detach()
	wantEndless(t, a.Stdout())
}

func dropOldest(t *engine.T) {
	box := stage.Create(t)
	size := 4 * retained(t)
	want := numbers(size)
	spec := count(size)
	spec.OutputPolicy = providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST
	c := box.Start(spec)
	t.Step("nobody reads, and it ends")
	endsUnread(t, c, "it to end although nobody reads")
	total := int64(len(want))
	arrives(t, c, total)
	out := c.Attach(stage.FromOldest()).Wait().Code(0)
	oldest := out.Done.GetStdoutMissing() // the stage compares it with the offsets
	if out.Done.GetStdoutTotal() != total {
		t.Errorf("Done says a total of %d bytes: want %d", out.Done.GetStdoutTotal(), total)
	}
	if keep := retained(t); total-oldest < keep {
		t.Errorf("%d bytes were retained: want at least the %d that are declared", total-oldest, keep)
	}
	if !bytes.Equal(out.Stdout, want[oldest:]) {
		t.Errorf("what was retained is damaged: %s", differ(out.Stdout, want[oldest:]))
	}
	if e := c.Get(); e.GetStdoutTotal() != total || e.GetStdoutOldest() != oldest {
		t.Errorf("GetExec says a total of %d and %d as the oldest: want %d and %d", e.GetStdoutTotal(), e.GetStdoutOldest(), total, oldest)
	}
	if oldest == 0 {
		return // all of it was retained, which is more than was promised
	}
	f := c.TryAttach().Refused("AttachExec from offset 0, which is not retained", offsetEvicted)
	stage.Names(t, "AttachExec from offset 0", f, "oldest_offset", strconv.FormatInt(oldest, 10))
}

func dropOldestReader(t *engine.T) {
	box := stage.Create(t)
	// The streams between here and there hold a few MiB at most.
	size := 4*retained(t) + 8<<20
	want := numbers(size)
	spec := count(size)
	spec.OutputPolicy = providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST
	c := box.Start(spec)
	a := c.Attach(stage.Stalled(), stage.FromOldest())
	endsUnread(t, c, "it to end although its reader stopped")
	a.Proceed()
	out := a.Wait().Code(0)
	if got := int64(len(out.Stdout)) + out.Done.GetStdoutMissing(); got != int64(len(want)) {
		t.Errorf("%d bytes came or were said to be missing: want %d", got, len(want))
	}
	keep := min(int(retained(t)), len(out.Stdout))
	if !bytes.HasSuffix(want, out.Stdout[len(out.Stdout)-keep:]) {
		t.Errorf("the last %d bytes that came are not those that were printed last", keep)
	}
}
