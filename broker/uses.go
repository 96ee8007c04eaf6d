package broker

import (
	"context"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// touchInterval is how far the stored time of last use may lag behind. The
// reconciler looks here before it calls a sandbox idle, so the lag never counts
// against anybody; it only saves a disk write per use.
const touchInterval = 30 * time.Second

// uses knows who uses which sandbox now, and when it was used last.
type uses struct {
	mu sync.Mutex
	m  map[string]*use
}

type use struct {
	open   int
	last   time.Time
	stored time.Time
}

func (u *uses) init() { u.m = make(map[string]*use) }

// begin records the start of a use and reports whether its time should be
// stored now.
func (u *uses) begin(id string, now time.Time) (store bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.m[id]
	if e == nil {
		e = &use{}
		u.m[id] = e
	}
	e.open++
	return e.at(now)
}

// end records the end of a use.
func (u *uses) end(id string, now time.Time) (store bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.m[id]
	if e == nil { // the sandbox was deleted meanwhile
		return false
	}
	e.open--
	return e.at(now)
}

func (e *use) at(now time.Time) (store bool) {
	e.last = now
	if now.Sub(e.stored) < touchInterval {
		return false
	}
	e.stored = now
	return true
}

// lastUse returns when a sandbox was used last as far as this process knows;
// that is now while a use is open.
func (u *uses) lastUse(id string, now time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.m[id]
	switch {
	case e == nil:
		return time.Time{}
	case e.open > 0:
		return now
	default:
		return e.last
	}
}

// forget drops what is known about a sandbox that is gone.
func (u *uses) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.m, id)
}

// flush stores every last use that is not stored yet. Errors are of no
// consequence: the stored times are then older than they could be.
func (u *uses) flush(ctx context.Context, store state.Sandboxes) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, e := range u.m {
		if e.last.After(e.stored) && store.TouchSandbox(ctx, id, e.last) == nil {
			e.stored = e.last
		}
	}
}

// touch records a use without length.
func (u *uses) touch(id string) {
	u.begin(id, time.Now())
	u.end(id, time.Now())
}
