package broadcast_test

import (
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/internal/broadcast"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSignal(t *testing.T) {
	var s broadcast.Signal
	s.Send() // nobody waits
	first, again := s.Next(), s.Next()
	if closed(first) {
		t.Error("a signal from before woke somebody")
	}
	s.Send()
	if !closed(first) || !closed(again) {
		t.Error("not all who waited are awake")
	}
	if closed(s.Next()) {
		t.Error("one signal woke somebody who came later")
	}
}

// TestNoneIsMissed: whoever takes Next before it looks sees the last of many changes.
func TestNoneIsMissed(t *testing.T) {
	const changes, readers = 1000, 8
	var (
		s    broadcast.Signal
		mu   sync.Mutex
		n    int
		done sync.WaitGroup
	)
	for range readers {
		done.Go(func() {
			for {
				next := s.Next()
				mu.Lock()
				seen := n
				mu.Unlock()
				if seen == changes {
					return
				}
				<-next
			}
		})
	}
	for range changes {
		mu.Lock()
		n++
		mu.Unlock()
		s.Send()
	}
	done.Wait()
}
