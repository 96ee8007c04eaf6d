package batch

import "sync"

// queue holds bytes between a writer and whoever takes them on.
type queue struct {
	mu   sync.Mutex
	cond sync.Cond
	// waiting holds what was put and not taken; nil: nothing.
	waiting *[]byte
	// err is why nothing more is put or, once all is taken, taken.
	err error
}

func newQueue() *queue {
	q := &queue{}
	q.cond.L = &q.mu
	return q
}

// put adds p, waiting while the queue is full. It fails once the queue is ended,
// and returns how much was added.
func (q *queue) put(p []byte) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n < len(p) {
		for q.err == nil && q.waiting != nil && len(*q.waiting) == bufferBytes {
			q.cond.Wait()
		}
		if q.err != nil {
			return n, q.err
		}
		if q.waiting == nil {
			q.waiting = getBuffer()
		}
		room := min(len(p)-n, bufferBytes-len(*q.waiting))
		*q.waiting = append(*q.waiting, p[n:n+room]...)
		n += room
		q.cond.Broadcast()
	}
	return n, nil
}

// take waits for bytes and returns all there are; the caller gives the buffer
// back with putBuffer. After the last ones it returns why the queue ended.
func (q *queue) take() (*[]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting == nil && q.err == nil {
		q.cond.Wait()
	}
	if q.waiting == nil {
		return nil, q.err
	}
	batch := q.waiting
	q.waiting = nil
	q.cond.Broadcast()
	return batch, nil
}

// end ends the queue; the first reason counts. With drop it also forgets what
// waits.
func (q *queue) end(err error, drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	if drop && q.waiting != nil {
		putBuffer(q.waiting)
		q.waiting = nil
	}
	q.cond.Broadcast()
}
