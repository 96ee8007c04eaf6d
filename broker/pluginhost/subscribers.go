package pluginhost

import (
	"context"
	"sync"
)

// subscriberBuffer holds the changes that a subscriber has not taken yet. A slow
// one loses the oldest, never the latest.
const subscriberBuffer = 64

type subscribers struct {
	mu     sync.Mutex
	closed bool
	chans  map[chan Status]struct{}
}

// Subscribe returns a channel of state changes of all plugins. It is closed when
// ctx ends or the host is closed.
func (h *Host) Subscribe(ctx context.Context) <-chan Status {
	c := make(chan Status, subscriberBuffer)
	s := &h.watch
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(c)
		return c
	}
	if s.chans == nil {
		s.chans = make(map[chan Status]struct{})
	}
	s.chans[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.chans[c]; ok {
			delete(s.chans, c)
			close(c)
		}
	})
	return c
}

func (s *subscribers) publish(status Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.chans {
		for {
			select {
			case c <- status:
			default:
				select {
				case <-c:
				default:
				}
				continue
			}
			break
		}
	}
}

func (s *subscribers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.chans {
		close(c)
	}
	clear(s.chans)
}
