package fake

import (
	"io"
	"sync"
	"syscall"
)

const (
	// pipeSize is what a pipe of Linux holds.
	pipeSize = 64 << 10
	// pipeBuf is how much is written as a whole, or waits.
	pipeBuf = 4096
)

// bell wakes everybody who waits for a change. Its owner's mutex guards it.
type bell struct{ waiting chan struct{} }

// wait returns a channel that the next ring closes.
func (b *bell) wait() <-chan struct{} {
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

// pipe is a bounded pipe in memory. It counts who can read and who can write, as
// ends are passed on by fork and dup.
type pipe struct {
	mu               sync.Mutex
	changed          bell
	data             []byte
	from             int
	readers, writers int
}

// newPipe returns a pipe with one end for reading.
func newPipe(writers int) *pipe { return &pipe{readers: 1, writers: writers} }

// tryRead reads what is there. If there is nothing and more may come, it returns
// what to wait for.
func (q *pipe) tryRead(b []byte) (n int, wake <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.from == len(q.data) {
		switch {
		case len(b) == 0:
			return 0, nil, nil
		case q.writers == 0:
			return 0, nil, io.EOF
		}
		return 0, q.changed.wait(), nil
	}
	n = copy(b, q.data[q.from:])
	if q.from += n; q.from == len(q.data) {
		q.data, q.from = q.data[:0], 0
	}
	q.changed.ring()
	return n, nil, nil
}

// tryWrite writes what there is room for. If there is none it returns what to
// wait for.
func (q *pipe) tryWrite(b []byte) (n int, wake <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.readers == 0 {
		return 0, nil, syscall.EPIPE
	}
	room := pipeSize - (len(q.data) - q.from)
	if len(b) > 0 && room < min(len(b), pipeBuf) {
		return 0, q.changed.wait(), nil
	}
	n = min(room, len(b))
	if q.from > 0 && len(q.data)+n > cap(q.data) {
		q.data, q.from = q.data[:copy(q.data, q.data[q.from:])], 0
	}
	q.data = append(q.data, b[:n]...)
	q.changed.ring()
	return n, nil, nil
}

// adds counts ends that are passed on, or closed with a negative number.
func (q *pipe) adds(readers, writers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.readers += readers
	q.writers += writers
	q.changed.ring()
}

// outside is an end of a pipe in the hands of the plugin, which is no process of
// the sandbox. Each end is closed once.
type outside struct {
	q      *pipe
	once   sync.Once
	closed chan struct{}
	writes bool
}

func readEnd(q *pipe) *outside  { return &outside{q: q, closed: make(chan struct{})} }
func writeEnd(q *pipe) *outside { return &outside{q: q, closed: make(chan struct{}), writes: true} }

// Read implements io.Reader.
func (o *outside) Read(b []byte) (int, error) {
	for {
		n, wake, err := o.q.tryRead(b)
		if wake == nil {
			return n, err
		}
		select {
		case <-wake:
		case <-o.closed:
			return 0, io.ErrClosedPipe
		}
	}
}

// Write implements io.Writer.
func (o *outside) Write(b []byte) (int, error) {
	written := 0
	for {
		select {
		case <-o.closed:
			return written, io.ErrClosedPipe
		default:
		}
		n, wake, err := o.q.tryWrite(b[written:])
		written += n
		switch {
		case err != nil:
			return written, io.ErrClosedPipe
		case written == len(b):
			return written, nil
		case wake == nil:
			continue
		}
		select {
		case <-wake:
		case <-o.closed:
		}
	}
}

// Close closes this end.
func (o *outside) Close() error {
	o.once.Do(func() {
		close(o.closed)
		if o.writes {
			o.q.adds(0, -1)
		} else {
			o.q.adds(-1, 0)
		}
	})
	return nil
}
