// Package faults makes simulators of vendors go wrong as they are told to. A List is
// asked about each request, and an Admin is how a simulator is told.
//
// Everything is safe for concurrent use.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"sync"
	"time"
)

// Kinds of faults.
const (
	// Status answers with a status, and does nothing.
	Status = "status"
	// Lost does what was asked, and breaks the connection instead of answering.
	Lost = "lost"
	// Refused breaks the connection, and does nothing.
	Refused = "refused"
	// Slow waits first.
	Slow = "slow"
	// Cut breaks the connection after so many bytes of the answer.
	Cut = "cut"
)

// Fault is what goes wrong with the next requests of a route.
type Fault struct {
	// Method is empty for every one. Path is a pattern as path.Match has them.
	Method string `json:"method"`
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	// Times is how often; 0: once.
	Times int `json:"times"`
	// Status, Code, Message and RetryAfter, in seconds, are of Status.
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Message    string `json:"message"`
	RetryAfter int    `json:"retryAfter"`
	// DelayMS is of Slow, Bytes of Cut.
	DelayMS int `json:"delayMs"`
	Bytes   int `json:"bytes"`
}

func (f *Fault) check() error {
	if _, err := path.Match(f.Path, ""); err != nil || f.Path == "" {
		return errors.New("path: want a pattern such as /sandbox/*")
	}
	switch f.Kind {
	case Lost, Refused:
	case Status:
		if f.Status < 400 || f.Status > 599 {
			return errors.New("status: want 400 to 599")
		}
	case Slow:
		if f.DelayMS < 1 {
			return errors.New("delayMs: want 1 or more")
		}
	case Cut:
		if f.Bytes < 0 {
			return errors.New("bytes: want 0 or more")
		}
	default:
		return errors.New("kind: want status, lost, refused, slow or cut")
	}
	return nil
}

// List is the faults that are left, oldest first. The zero value is ready.
type List struct {
	mu   sync.Mutex
	list []*Fault
}

// Add adds a fault.
func (l *List) Add(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	f.Times = max(f.Times, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, &f)
	return nil
}

// Len is how many there are.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}

// take returns the fault that a request meets, if any.
func (l *List) take(r *http.Request) *Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, fault := range l.list {
		hit, _ := path.Match(fault.Path, r.URL.Path) // it was checked
		if !hit || (fault.Method != "" && fault.Method != r.Method) {
			continue
		}
		if fault.Times--; fault.Times == 0 {
			l.list = append(l.list[:i:i], l.list[i+1:]...)
		}
		return fault
	}
	return nil
}

// Around serves a request with what goes wrong with it. say answers with a Status in
// the vendor's words.
func (l *List) Around(w http.ResponseWriter, r *http.Request, say func(http.ResponseWriter, *Fault), serve func(http.ResponseWriter, *http.Request)) {
	fault := l.take(r)
	if fault == nil {
		serve(w, r)
		return
	}
	switch fault.Kind {
	case Status:
		say(w, fault)
	case Slow:
		body, _ := io.ReadAll(r.Body) // until it was read, nobody sees that the client has left
		r.Body = io.NopCloser(bytes.NewReader(body))
		timer := time.NewTimer(time.Duration(fault.DelayMS) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		serve(w, r)
	case Lost:
		serve(&nowhere{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case Refused:
		panic(http.ErrAbortHandler)
	case Cut:
		serve(&scissors{ResponseWriter: w, left: fault.Bytes}, r.WithContext(context.WithValue(r.Context(), limitKey{}, fault.Bytes)))
		panic(http.ErrAbortHandler)
	}
}

type limitKey struct{}

// Limit is after how many bytes a handler has to break a connection that it has taken
// over, which nobody else can; false: never.
func Limit(ctx context.Context) (int, bool) {
	n, ok := ctx.Value(limitKey{}).(int)
	return n, ok
}

// Serve answers a request for faults. It reports an error that is the client's.
func (l *List) Serve(r *http.Request) error {
	if r.Method == http.MethodDelete {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.list = nil
		return nil
	}
	var f Fault
	if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
		return err
	}
	return l.Add(f)
}

// nowhere takes an answer that is lost.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Flush()                      {}

// scissors passes so many bytes on and then breaks the connection.
type scissors struct {
	http.ResponseWriter
	left int
}

// Write implements io.Writer.
func (s *scissors) Write(b []byte) (int, error) {
	if len(b) > s.left {
		_, _ = s.ResponseWriter.Write(b[:s.left])
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	s.left -= len(b)
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *scissors) Unwrap() http.ResponseWriter { return s.ResponseWriter }
