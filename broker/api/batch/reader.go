package batch

import "io"

// reader reads a body in few large pieces: each read of the body itself makes
// HTTP/2 send two window updates. How much it asks for follows how much came last
// time, so that a stream which waits for its next message holds no large buffer
// while it does.
type reader struct {
	src  io.ReadCloser
	rest []byte  // read and not taken
	held *[]byte // where rest lies; nil: in small
	next int     // how much to ask for
	err  error

	small [minRead]byte
}

const minRead = 512

// Read implements io.Reader. It is called by one goroutine at a time.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		r.release()
		if r.err != nil || len(p) == 0 {
			return 0, r.err
		}
		if len(p) >= max(r.next, minRead) {
			n, err := r.src.Read(p)
			r.adapt(n, len(p))
			r.err = err
			return n, err
		}
		r.fill()
		if len(r.rest) == 0 {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill reads once.
func (r *reader) fill() {
	buf := r.small[:]
	if r.next > minRead {
		r.held = getBuffer()
		buf = (*r.held)[:r.next]
	}
	n, err := r.src.Read(buf)
	r.rest, r.err = buf[:n], err
	r.adapt(n, len(buf))
}

// adapt asks for more after a read that got all it asked for, and for less after
// one that got little.
func (r *reader) adapt(got, asked int) {
	switch {
	case got == asked:
		r.next = min(max(asked, minRead)*4, bufferBytes)
	case got < asked/4:
		r.next = max(asked/4, minRead)
	}
}

func (r *reader) release() {
	if r.held != nil {
		putBuffer(r.held)
		r.held = nil
	}
	r.rest = nil
}

// Close closes the body. A read under way returns.
func (r *reader) Close() error { return r.src.Close() }
