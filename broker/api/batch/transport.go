package batch

import (
	"io"
	"net/http"
	"os"
	"sync"
)

// Transport batches the bodies of requests and responses that next carries.
func Transport(next http.RoundTripper) http.RoundTripper { return transport{next} }

type transport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	// A length of 0 and a body mean that the length is not known.
	if req.Body != nil && req.Body != http.NoBody && req.ContentLength <= 0 {
		req = req.WithContext(req.Context()) // a RoundTripper must not change its request
		req.Body = &requestBody{src: req.Body, queue: newQueue()}
	}
	res, err := t.next.RoundTrip(req)
	if err == nil && res.ProtoMajor == 2 {
		res.Body = &reader{src: res.Body}
	}
	return res, err
}

// requestBody reads ahead of the transport, so that what a caller writes piece by
// piece leaves in batches. The goroutine that does ends with the body, which a
// transport always closes.
type requestBody struct {
	src   io.ReadCloser
	queue *queue
	once  sync.Once
	held  *[]byte
	rest  []byte
}

// Read implements io.Reader. It is called by one goroutine at a time.
func (b *requestBody) Read(p []byte) (int, error) {
	b.once.Do(func() { go b.readAhead() })
	if len(b.rest) == 0 {
		if b.held != nil {
			putBuffer(b.held)
			b.held = nil
		}
		batch, err := b.queue.take()
		if err != nil {
			return 0, err
		}
		b.held, b.rest = batch, *batch
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// aheadBytes is more than a full frame takes.
const aheadBytes = 40 << 10

func (b *requestBody) readAhead() {
	buf := make([]byte, aheadBytes)
	for {
		n, err := b.src.Read(buf)
		if _, perr := b.queue.put(buf[:n]); perr != nil {
			return
		}
		if err != nil {
			b.queue.end(err, false)
			return
		}
	}
}

// Close ends reading ahead. It may be called while Read is under way.
func (b *requestBody) Close() error {
	err := b.src.Close()
	b.queue.end(os.ErrClosed, true)
	return err
}
