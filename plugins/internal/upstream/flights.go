package upstream

import (
	"context"
	"sync"
)

// Flights lets one call at a time work for a key. The zero value is ready.
type Flights struct {
	mu   sync.Mutex
	busy map[string]chan struct{}
}

// Enter waits for its turn, which leave ends.
func (f *Flights) Enter(ctx context.Context, key string) (leave func(), err error) {
	for {
		f.mu.Lock()
		other := f.busy[key]
		if other == nil {
			if f.busy == nil {
				f.busy = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			f.busy[key] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(f.busy, key)
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
