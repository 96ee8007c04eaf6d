package exactlyonce_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// cell is one case of the matrix.
type cell struct {
	*world
	op       operation
	prepared []string
	// first is what the operation made, once somebody was told.
	first []string
}

func newCell(t *testing.T, op operation, v vendors) *cell {
	t.Helper()
	return &cell{world: newWorld(t, v), op: op}
}

// attempt makes the call once and keeps what it made.
func (c *cell) attempt(within time.Duration) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	made, err := c.op.call(ctx, c.world)
	if err != nil {
		return err
	}
	if c.first != nil && !slices.Equal(c.first, made) {
		c.t.Errorf("the repetition made %v, the first call %v", made, c.first)
	}
	c.first = made
	return nil
}

// killedDuring makes the call and kills the broker when reached returns.
func (c *cell) killedDuring(reached func()) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.attempt(patience) }()
	reached()
	c.kill()
	<-done // that it fails is not promised: the answer may have been under way
}

// watched runs f while the vendors are looked at all the time.
func (c *cell) watched(f func()) {
	c.t.Helper()
	end := c.watch(len(c.prepared) + max(0, c.op.makes))
	f()
	if err := end(); err != nil {
		c.t.Error(err)
	}
}

// settles waits until nothing is under way, and compares the broker with the
// vendors: what nobody repeats is not left behind.
func (c *cell) settles() {
	c.t.Helper()
	if c.op.name == snapshot { // the broker asks for the listing again, every half a minute
		c.eventually("the broker to know what the vendors have", func() (bool, string) {
			known, there := c.settled(), c.objects()
			return slices.Equal(known, there), fmt.Sprintf("it knows %v, they have %v", known, there)
		})
		return
	}
	known := c.settled()
	if there := c.objects(); !slices.Equal(known, there) {
		c.t.Errorf("the broker knows %v, the vendors have %v", known, there)
	}
}

// wrote compares the journal of the call with the one whose steps the matrix has. In
// other kinds of trouble it may be longer.
func (c *cell) wrote(tr trouble) {
	c.t.Helper()
	var want []string
	switch {
	case tr.name == "none":
		want = c.op.writes
	case tr.name == refused && c.op.denied != nil:
		want = c.op.denied
	default:
		return
	}
	c.eventually(fmt.Sprintf("the journal to be the writes at which the broker is killed, %q", want), func() (bool, string) {
		text, err := os.ReadFile(c.writesFile())
		got := strings.Split(strings.TrimSpace(string(text)), "\n")
		return err == nil && slices.Equal(got, want), fmt.Sprintf("%q, %v", got, err)
	})
}

// repeats repeats the call until it works, and then once more.
func (c *cell) repeats() {
	c.t.Helper()
	if c.op.makes < 0 {
		c.remove(c.prepared[0])
		c.prepared = c.prepared[1:]
		if err := c.attempt(patience); err != nil {
			c.t.Errorf("deleting again: %v", err)
		}
	} else {
		for range 2 {
			c.eventually("the repetition to work", func() (bool, string) {
				err := c.attempt(patience)
				return err == nil, fmt.Sprint(err)
			})
		}
	}
	want := slices.Sorted(slices.Values(append(slices.Clone(c.prepared), c.first...)))
	if got := c.settled(); !slices.Equal(got, want) {
		c.t.Errorf("the broker knows %v, want %v", got, want)
	}
	if got := c.objects(); !slices.Equal(got, want) {
		c.t.Errorf("the vendors have %v, want %v", got, want)
	}
}

// ends compares with the vendors' own listing, deletes all, and proves that
// nothing is left.
func (c *cell) ends() {
	c.t.Helper()
	known := c.settled()
	c.stop()
	if there := c.listing(); !slices.Equal(known, there) {
		c.t.Errorf("the broker knows %v, the vendors list %v", known, there)
	}
	if len(known) == 0 {
		return
	}
	c.start("")
	for _, id := range known {
		c.remove(id)
	}
	c.eventually("the end of all", func() (bool, string) {
		all := c.objects()
		return len(all) == 0, fmt.Sprint(all)
	})
	if left := c.settled(); len(left) != 0 {
		c.t.Errorf("the broker knows %v after everything was deleted", left)
	}
}

// past waits for a time.
func (c *cell) past(at time.Time) {
	c.t.Helper()
	c.eventually("a time", func() (bool, string) { return time.Now().After(at), "" })
}
