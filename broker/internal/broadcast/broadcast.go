// Package broadcast wakes any number of goroutines at once.
package broadcast

import "sync"

// Signal wakes all who wait for it. The zero value is ready; it is safe for
// concurrent use, and must not be copied.
//
// Who waits takes Next before looking for what it waits for, so that nothing comes
// in between:
//
//	for {
//		next := s.Next()
//		if look() {
//			return
//		}
//		<-next
//	}
type Signal struct {
	mu   sync.Mutex
	next chan struct{} // nil while nobody waits
}

// Next returns a channel that is closed by the next Send.
func (s *Signal) Next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Send wakes all who took Next before.
func (s *Signal) Send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}
