package transfer_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// tContext is for moves in checks that have no context.
var tContext = context.Background()

// whole fails unless the files are in a sandbox that lives, which has the name if it
// is not the source, and reports whether that is the source.
func whole(t interface{ Fatalf(string, ...any) }, w *world) (still bool) {
	live, named := w.live(), w.named(name)
	if live[named] == nil {
		t.Fatalf("%s means nothing; %d live", name, len(live))
	}
	if live[source] != nil {
		return true
	}
	for id, files := range live {
		if maps.Equal(files, carried()) {
			if id != named {
				t.Fatalf("%s means %s, and the files are in %s", name, named, id)
			}
			return false
		}
	}
	t.Fatalf("the files are nowhere whole; %d live", len(live))
	return false
}

// TestKilledAnywhere kills a move at any call, before or after it took effect, some
// times over; nothing is lost, and a move after that leaves one sandbox.
func TestKilledAnywhere(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		w.reset()
		sb := w.add(source, tree())
		w.refusals = rapid.IntRange(0, 2).Draw(t, "refusals")
		for range rapid.IntRange(1, 3).Draw(t, "deaths") {
			m := &mortal{world: w, left: rapid.IntRange(1, 14).Draw(t, "calls"), late: rapid.Bool().Draw(t, "late")}
			_, _ = w.move(m, sb).Run(tContext)
			if !whole(t, w) {
				return // it had succeeded, or was killed after its last call
			}
			sb = w.sandbox(source) // as the next one finds it
		}
		w.refusals = 0
		if _, err := w.move(nil, sb).Run(tContext); err != nil {
			t.Fatalf("the last one failed: %v", err)
		}
		if whole(t, w) || len(w.live()) != 1 {
			t.Fatalf("%d live, want the target alone", len(w.live()))
		}
	})
}

// postponed keeps the request of a creation back, whose sender dies meanwhile.
type postponed struct {
	*world
	req *brokerv1.CreateSandboxRequest
}

func (p *postponed) Create(_ context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	p.req = req
	return nil, errDead
}

// TestLateRequestMakesNothing: the request of a dead process that arrives after
// another has moved the sandbox, or while it does, makes no second one.
func TestLateRequestMakesNothing(t *testing.T) {
	w := newWorld(t)
	sb := w.add(source, tree())
	dead := &postponed{world: w}
	first := w.move(nil, sb)
	first.Sandboxes = dead
	if _, err := first.Run(t.Context()); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	w.onDownload = func(id string) {
		if _, err := w.create(dead.req); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
			t.Errorf("while files of %s are read: %v", id, err)
		}
	}
	if _, err := w.move(nil, sb).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(t.Context(), dead.req); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) || len(w.live()) != 1 {
		t.Errorf("afterwards: %v; %d live", err, len(w.live()))
	}
}

// TestManyAtOnce: of moves that run at once, one succeeds or none; nothing is lost.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.reset()
		sb := w.add(source, tree())
		var wg sync.WaitGroup
		var mu sync.Mutex
		ended := 0
		for range 4 {
			wg.Go(func() {
				if moved, err := w.move(nil, sb).Run(t.Context()); err == nil && moved.Ended {
					mu.Lock()
					ended++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if still := whole(t, w); still != (ended == 0) || ended > 1 || len(w.live()) != 1 {
			t.Fatalf("%d succeeded, the source lives: %v, and %d live", ended, still, len(w.live()))
		}
	}
}
