package sdk

import (
	"context"
	"sync"
	"time"
)

// inflight counts calls and knows whether new work is taken.
type inflight struct {
	mu       sync.Mutex
	count    int
	draining bool
	// idle is closed and replaced whenever a call ends.
	idle chan struct{}
}

func (f *inflight) init() { f.idle = make(chan struct{}) }

// enter counts a call until leave; false means that it is refused because it is
// new work and the server drains.
func (f *inflight) enter(newWork bool) (leave func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining && newWork {
		return nil, false
	}
	f.count++
	return sync.OnceFunc(f.leave), true
}

func (f *inflight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
	close(f.idle)
	f.idle = make(chan struct{})
}

func (f *inflight) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = true
}

// wait returns when no call is in flight or ctx ends, with the number left.
func (f *inflight) wait(ctx context.Context) int {
	for {
		f.mu.Lock()
		left, changed := f.count, f.idle
		f.mu.Unlock()
		if left == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return left
		}
	}
}

// Drain refuses new work from now on, ends streams that would never end by
// themselves, waits up to grace for the rest, and then tells streams to end. It
// returns how many calls did not finish. It cannot be undone.
//
// Drain is what the RPC does, for the owner of the server.
func (s *Server) Drain(ctx context.Context, grace time.Duration) (unfinished int, err error) {
	s.inflight.drain()
	s.endWatches(errDraining())
	if d, ok := s.driver.(Drainer); ok {
		err = d.Drain(ctx)
	}
	wait, cancel := context.WithTimeout(ctx, max(grace, 0))
	defer cancel()
	unfinished = s.inflight.wait(wait)
	s.endStreams(errDraining())
	return unfinished, err
}
