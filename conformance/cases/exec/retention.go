package exec

import (
	"bytes"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// retention are the cases about offsets that are not there.
func retention() []engine.Case {
	return []engine.Case{
		{
			ID: "attach/evicted-offset", Title: "An offset that is no longer retained is refused, and the refusal names the oldest one.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-012"}, Cost: 10, Budget: time.Minute,
			Run: evicted,
		},
		{
			ID: "attach/from-oldest", Title: "With from_oldest an attachment starts at the oldest byte there is, and Done counts what it missed.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-012", "REQ-EXEC-011"}, Cost: 10, Budget: time.Minute,
			Run: fromOldest,
		},
		{
			ID: "attach/offset-beyond-end", Title: "An offset beyond what a command printed is refused.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-012"}, Cost: 5,
			Run: beyondEnd,
		},
	}
}

// read starts a command that prints more than is retained, and reads all of it.
func read(t *engine.T, box *stage.Box) (*stage.Command, []byte) {
	size := 4 * retained(t)
	want := numbers(size)
	c := box.Start(count(size))
	if out := c.Wait().Code(0); !bytes.Equal(out.Stdout, want) {
		t.Fatalf("output is not whole: %s", differ(out.Stdout, want))
	}
	return c, want
}

func evicted(t *engine.T) {
	box := stage.Create(t)
	c, want := read(t, box)
	oldest := c.Get().GetStdoutOldest()
	if oldest == 0 {
		t.Step("all of it is retained, which is more than was promised")
		c.Wait().Code(0).Out(string(want))
		return
	}
	if keep := retained(t); int64(len(want))-oldest < keep {
		t.Errorf("%d bytes are retained: want at least the %d that are declared", int64(len(want))-oldest, keep)
	}
	for _, from := range []int64{0, oldest - 1} {
		what := "AttachExec from offset " + strconv.FormatInt(from, 10)
		f := c.TryAttach(stage.From(from, 0)).Refused(what, offsetEvicted)
		stage.NoEffect(t, what, f)
		stage.Names(t, what, f, "oldest_offset", strconv.FormatInt(oldest, 10))
	}
	c.Attach(stage.From(oldest, 0)).Wait().Code(0).Out(string(want[oldest:]))
}

func fromOldest(t *engine.T) {
	box := stage.Create(t)
	c, want := read(t, box)
	oldest := c.Get().GetStdoutOldest()
	a := c.Attach(stage.FromOldest())
	if from := a.Opened().GetStdoutFrom(); from != oldest {
		t.Errorf("Opened says that standard output starts at offset %d: want %d, the oldest byte", from, oldest)
	}
	// The stage compares what Done says is missing with the offsets.
	a.Wait().Code(0).Out(string(want[oldest:]))
	t.Step("an offset that is retained is not changed")
	from := int64(len(want)) - 10
	c.Attach(stage.FromOldest(), stage.From(from, 0)).Wait().Code(0).Out(string(want[from:]))
}

func beyondEnd(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("printf 12345"))
	c.Wait().Code(0)
	for _, offsets := range [][2]int64{{6, 0}, {0, 1}, {1 << 40, 0}} {
		what := "AttachExec from offsets " + strconv.FormatInt(offsets[0], 10) + " and " + strconv.FormatInt(offsets[1], 10)
		f := c.TryAttach(stage.From(offsets[0], offsets[1])).Refused(what, fieldInvalid)
		stage.NoEffect(t, what, f)
	}
	c.Attach(stage.From(5, 0)).Wait().Code(0).Out("")
}
