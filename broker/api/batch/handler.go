package batch

import (
	"errors"
	"net/http"
)

// Handler batches what next reads and writes. It is for streams over HTTP/2; all
// else passes as it is.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r = r.WithContext(r.Context()) // others have the old one
			r.Body = &reader{src: r.Body}
		}
		out := &responseWriter{ResponseWriter: w}
		defer out.finish() // trailers come after all of the body
		next.ServeHTTP(out, r)
	})
}

// responseWriter writes a response in batches. Before the second flush it is as
// good as the one it wraps, so that a response of one message costs nothing; then
// a goroutine takes over the writing, which ends with the handler.
//
// The header is written by the handler's own goroutine, before the other one is
// started, because it may go on to set trailers in the same map.
type responseWriter struct {
	http.ResponseWriter
	flushed bool
	queue   *queue        // not nil: the goroutine runs
	done    chan struct{} // closed at its end
}

// errFinished ends the queue when the handler has returned.
var errFinished = errors.New("the handler has returned")

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements http.ResponseWriter. An error may be that of an earlier batch.
func (w *responseWriter) Write(p []byte) (int, error) {
	if !w.flushed {
		return w.ResponseWriter.Write(p)
	}
	if w.queue == nil {
		w.queue, w.done = newQueue(), make(chan struct{})
		go w.write()
	}
	return w.queue.put(p)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController. Behind the first flush nothing
// is ever kept back, so that there is nothing to do.
func (w *responseWriter) FlushError() error {
	if w.flushed {
		return nil
	}
	w.flushed = true
	return flush(w.ResponseWriter)
}

func flush(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }

// write writes batches until the handler is done or the client is gone.
func (w *responseWriter) write() {
	defer close(w.done)
	for {
		batch, err := w.queue.take()
		if err != nil {
			return
		}
		_, err = w.ResponseWriter.Write(*batch)
		putBuffer(batch)
		if err == nil {
			err = flush(w.ResponseWriter)
		}
		if err != nil {
			w.queue.end(err, true)
			return
		}
	}
}

// finish returns when all is written, or cannot be.
func (w *responseWriter) finish() {
	if w.queue == nil {
		return
	}
	w.queue.end(errFinished, false)
	<-w.done
}
