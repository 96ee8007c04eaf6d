package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// maker makes numbers, in a time that passes only in the bubble.
type maker struct {
	takes time.Duration

	mu    sync.Mutex
	made  int
	ended []int
	fail  error
	fails int
}

func (m *maker) make(ctx context.Context, _ *Pool[int]) (int, error) {
	timer := time.NewTimer(m.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	m.made++
	return m.made, nil
}

func (m *maker) end(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, n)
}

func (m *maker) failed(error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails++
}

// alive is how many were made and not ended.
func (m *maker) alive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made - len(m.ended)
}

const takes = 300 * time.Millisecond

// env is what a test has in its bubble.
type env struct {
	t *testing.T
	p *Pool[int]
	m *maker
}

// bubble runs f with a pool that it closes; every thing is ended then, unless it
// was taken.
func bubble(t *testing.T, most int, f func(*env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &maker{takes: takes}
		p := New(Options[int]{Max: most, Make: m.make, End: m.end, Failed: m.failed})
		f(&env{t, p, m})
		p.Close()
		if _, ok := p.Take(t.Context()); ok {
			t.Error("a closed pool hands something out")
		}
	})
}

// pass lets time pass and everything come to rest.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func wantReady(t *testing.T, p *Pool[int], ready, want int) {
	t.Helper()
	if r, w := p.Ready(); r != ready || w != want {
		t.Errorf("%d are ready and %d are kept: want %d and %d", r, w, ready, want)
	}
}

func TestOneIsKept(t *testing.T) {
	bubble(t, 4, func(e *env) {
		t, p, m := e.t, e.p, e.m
		pass(takes)
		wantReady(t, p, 1, 1)
		if n, ok := p.Take(t.Context()); n != 1 || !ok {
			t.Errorf("took %d, %t", n, ok)
		}
		pass(takes)
		wantReady(t, p, 1, 1)
		pass(time.Hour)
		if m.made != 2 {
			t.Errorf("%d were made: want the one taken and the one kept", m.made)
		}
	})
}

func TestDemandGrowsAndShrinks(t *testing.T) {
	bubble(t, 3, func(e *env) {
		t, p, m := e.t, e.p, e.m
		pass(takes)
		taken := 0
		for range 5 {
			if _, ok := p.Take(t.Context()); ok {
				taken++
			}
		}
		pass(10 * time.Second)
		wantReady(t, p, 3, 3)
		pass(decay)
		wantReady(t, p, 2, 2)
		pass(2 * decay)
		wantReady(t, p, 1, 1)
		if alive := m.alive() - taken; alive != 1 {
			t.Errorf("%d things are alive that nobody took: want 1", alive)
		}
	})
}

func TestSlowDemandKeepsOne(t *testing.T) {
	bubble(t, 8, func(e *env) {
		t, p := e.t, e.p
		for range 20 {
			pass(3 * time.Second)
			if _, ok := p.Take(t.Context()); !ok {
				t.Error("nothing was ready")
			}
		}
		if _, want := p.Ready(); want != 1 {
			t.Errorf("%d are kept: want 1", want)
		}
	})
}

func TestTakeWaitsForTheOneUnderWay(t *testing.T) {
	bubble(t, 1, func(e *env) {
		t, p, m := e.t, e.p, e.m
		pass(takes / 2)
		began := time.Now()
		var wg sync.WaitGroup
		var got []bool
		var mu sync.Mutex
		for range 2 {
			wg.Go(func() {
				_, ok := p.Take(t.Context())
				mu.Lock()
				defer mu.Unlock()
				got = append(got, ok)
			})
		}
		wg.Wait()
		if !slices.Contains(got, true) || !slices.Contains(got, false) {
			t.Errorf("two callers got %v: want one to get the one thing", got)
		}
		if d := time.Since(began); d != takes/2 {
			t.Errorf("it took %v: want the rest of %v", d, takes)
		}
		if m.made != 1 {
			t.Errorf("%d were made", m.made)
		}
	})
}

func TestTakeIsCut(t *testing.T) {
	bubble(t, 1, func(e *env) {
		t, p := e.t, e.p
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), takes/2)
		defer cancel()
		if _, ok := p.Take(ctx); ok {
			t.Error("something came too early")
		}
		pass(takes)
		wantReady(t, p, 1, 1) // the one nobody waited for any more
	})
}

func TestNothingIsBegunWhileBusy(t *testing.T) {
	bubble(t, 2, func(e *env) {
		t, p, m := e.t, e.p, e.m
		pass(takes)
		done := p.Busy()
		other := p.Busy()
		for range 2 {
			p.Take(t.Context())
		}
		pass(time.Minute / 2)
		if m.made != 1 {
			t.Errorf("%d were made while somebody waited: want 1, from before", m.made)
		}
		done()
		pass(time.Second)
		if m.made != 1 {
			t.Errorf("%d were made while somebody else waited: want 1", m.made)
		}
		other()
		pass(takes)
		wantReady(t, p, 1, 2)
		pass(takes)
		wantReady(t, p, 2, 2)
	})
}

// TestQuiet: the last one is made at once, another one when what was handed out
// had its time.
func TestQuiet(t *testing.T) {
	bubble(t, 2, func(e *env) {
		t, p := e.t, e.p
		p.Take(t.Context())
		p.Take(t.Context())
		pass(time.Second)
		wantReady(t, p, 2, 2)
		done := p.Busy()
		p.Take(t.Context())
		done()
		pass(takes)
		wantReady(t, p, 1, 2)
		pass(quiet)
		wantReady(t, p, 2, 2)
	})
}

func TestFailuresArePaced(t *testing.T) {
	bubble(t, 1, func(e *env) {
		t, p, m := e.t, e.p, e.m
		m.mu.Lock()
		m.fail = errors.New("no")
		m.mu.Unlock()
		pass(10 * time.Minute)
		m.mu.Lock()
		if m.fails < 10 || m.fails > 20 {
			t.Errorf("%d attempts in ten minutes: want one a minute after the first", m.fails)
		}
		m.fail = nil
		m.mu.Unlock()
		pass(2 * lastRetry)
		wantReady(t, p, 1, 1)
	})
}

func TestRemove(t *testing.T) {
	bubble(t, 1, func(e *env) {
		t, p, m := e.t, e.p, e.m
		pass(takes)
		p.Remove(1)
		p.Remove(77)
		wantReady(t, p, 0, 1)
		pass(takes)
		if n, ok := p.Take(t.Context()); n != 2 || !ok {
			t.Errorf("took %d, %t: want the second", n, ok)
		}
		p.Remove(2) // is the taker's
		if len(m.ended) != 0 {
			t.Errorf("%v were ended", m.ended)
		}
	})
}

func TestCloseEndsAll(t *testing.T) {
	for _, after := range []time.Duration{0, takes / 2, takes, 3 * takes} {
		var m *maker
		bubble(t, 2, func(e *env) {
			m = e.m
			pass(after)
		})
		if m.alive() != 0 {
			t.Errorf("%d are left of a pool that was closed after %v", m.alive(), after)
		}
	}
}
