package runner

import (
	"fmt"
	"io"
	"sync"
)

// spool is a stream between the runner and the SDK. It never makes its writer wait,
// because the other stream comes the same way, and holds no more than a window,
// because the runner sends no more.
type spool struct {
	// ask is called after so much was read that the runner should know.
	ask func()

	mu   sync.Mutex
	cond *sync.Cond
	data []byte
	// next is the offset of the next byte from the runner, got of the next to the SDK,
	// and told the last of which ask was called.
	next, got, told int64
	done            bool
	err             error
}

func newSpool(ask func()) *spool {
	s := &spool{ask: ask}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// put adds data at an offset, and reports whether it was news.
func (s *spool) put(offset int64, data []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case offset > s.next:
		return false, fmt.Errorf("%w: bytes %d to %d", errGap, s.next, offset)
	case offset+int64(len(data)) <= s.next || s.err != nil:
		return false, nil
	}
	data = data[s.next-offset:]
	if len(s.data)+len(data) > 2*window {
		return false, fmt.Errorf("%w: the runner sent more than it may", errLine)
	}
	s.data = append(s.data, data...)
	s.next += int64(len(data))
	s.cond.Broadcast()
	return true, nil
}

// end says that the stream has so many bytes and no more.
func (s *spool) end(total int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if total > s.next {
		return false, fmt.Errorf("%w: bytes %d to %d", errGap, s.next, total)
	}
	news := !s.done
	s.done = true
	s.cond.Broadcast()
	return news, nil
}

// fail ends a stream that is not whole with an error.
func (s *spool) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done && s.err == nil {
		s.err = err
	}
	s.cond.Broadcast()
}

// whole reports whether the runner has said all of it.
func (s *spool) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// read is how much the SDK has taken over.
func (s *spool) read() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// Read implements io.Reader.
func (s *spool) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.data) == 0 && !s.done && s.err == nil {
		s.cond.Wait()
	}
	switch {
	case len(s.data) > 0:
	case s.done:
		return 0, io.EOF
	default:
		return 0, s.err
	}
	n := copy(b, s.data)
	if s.data = s.data[n:]; len(s.data) == 0 {
		s.data = nil
	}
	s.got += int64(n)
	const often = window / 2
	if s.got-s.told >= often && !s.done {
		s.told = s.got
		s.ask()
	}
	return n, nil
}
