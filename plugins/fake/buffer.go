package fake

import (
	"io"
	"sync"
)

// bufferSize is what a pipe of Linux holds.
const bufferSize = 64 << 10

// buffer is a pipe in memory: bounded, with an end for each side.
type buffer struct {
	mu      sync.Mutex
	changed *sync.Cond
	data    []byte
	closed  bool
	err     error
}

func newBuffer() *buffer {
	b := &buffer{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// Read blocks until there is data, the writer closed, or fail.
func (b *buffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 {
		switch {
		case b.err != nil:
			return 0, b.err
		case b.closed:
			return 0, io.EOF
		}
		b.changed.Wait()
	}
	n := copy(p, b.data)
	b.data = b.data[:copy(b.data, b.data[n:])]
	b.changed.Broadcast()
	return n, nil
}

// Write blocks while the buffer is full.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	written := 0
	for written < len(p) {
		switch {
		case b.err != nil:
			return written, b.err
		case b.closed:
			return written, io.ErrClosedPipe
		case len(b.data) >= bufferSize:
			b.changed.Wait()
			continue
		}
		n := min(len(p)-written, bufferSize-len(b.data))
		b.data = append(b.data, p[written:written+n]...)
		written += n
		b.changed.Broadcast()
	}
	return written, nil
}

// closeWrite lets readers read what is left and then io.EOF.
func (b *buffer) closeWrite() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.changed.Broadcast()
}

// Close is closeWrite, for use as an io.WriteCloser.
func (b *buffer) Close() error {
	b.closeWrite()
	return nil
}

// fail ends both sides; data that is left can still be read.
func (b *buffer) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.changed.Broadcast()
}
