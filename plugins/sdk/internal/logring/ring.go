package logring

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Ring is the writer. It is safe for concurrent use.
type Ring struct {
	dst   io.Writer
	limit int
	done  chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	lines   [][]byte
	size    int
	writing bool
	dropped uint64
	closed  bool
	// report formats the line that says how many were dropped.
	report func(dropped uint64) []byte
}

// New returns a ring that holds at most limit bytes for dst. report formats the
// line that is written once dst takes lines again; nil means a plain sentence.
func New(dst io.Writer, limit int, report func(dropped uint64) []byte) *Ring {
	if report == nil {
		report = func(n uint64) []byte { return fmt.Appendf(nil, "%d log lines were dropped\n", n) }
	}
	r := &Ring{dst: dst, limit: limit, done: make(chan struct{}), report: report}
	r.changed = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// Write takes one line. It returns at once and never fails.
func (r *Ring) Write(p []byte) (int, error) {
	line := append(make([]byte, 0, len(p)), p...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return len(p), nil
	}
	r.lines = append(r.lines, line)
	r.size += len(line)
	for r.size > r.limit {
		r.size -= len(r.lines[0])
		r.lines[0] = nil
		r.lines = r.lines[1:]
		r.dropped++
	}
	r.changed.Broadcast()
	return len(p), nil
}

// Dropped returns how many lines have been dropped and not reported yet.
func (r *Ring) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Flush waits until everything written so far was handed to the destination, or
// ctx ends.
func (r *Ring) Flush(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for (len(r.lines) > 0 || r.writing) && ctx.Err() == nil {
		r.changed.Wait()
	}
	return ctx.Err()
}

// Close stops taking lines and lets the goroutine end as soon as the
// destination has returned. It does not wait for a destination that is stuck;
// Done tells.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.changed.Broadcast()
}

// Done is closed when nothing runs any more.
func (r *Ring) Done() <-chan struct{} { return r.done }

func (r *Ring) run() {
	defer close(r.done)
	for {
		line, ok := r.next()
		if !ok {
			return
		}
		_, _ = r.dst.Write(line) // a log that cannot be written has nowhere to say so
	}
}

func (r *Ring) next() ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing = false
	r.changed.Broadcast()
	for len(r.lines) == 0 && !r.closed {
		r.changed.Wait()
	}
	if r.dropped > 0 && len(r.lines) > 0 {
		line := r.report(r.dropped)
		r.dropped = 0
		r.writing = true
		return line, true
	}
	if len(r.lines) == 0 {
		return nil, false
	}
	line := r.lines[0]
	r.lines[0] = nil
	r.lines = r.lines[1:]
	r.size -= len(line)
	r.writing = true
	return line, true
}
