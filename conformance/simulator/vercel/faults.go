package vercel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// adminPrefix is below which the simulator itself is spoken to:
//
//	GET    /_simulator/state    what there is: sandboxes by status, and faults left
//	POST   /_simulator/faults   adds a Fault
//	DELETE /_simulator/faults   takes all back
//	POST   /_simulator/evict    {"name": …}: the vendor takes the machine away
const adminPrefix = "/_simulator/"

// Kinds of faults.
const (
	// FaultStatus answers with a status, and does nothing.
	FaultStatus = "status"
	// FaultLost does what was asked, and breaks the connection instead of answering.
	FaultLost = "lost"
	// FaultRefused breaks the connection, and does nothing.
	FaultRefused = "refused"
	// FaultSlow waits first.
	FaultSlow = "slow"
	// FaultCut breaks the connection after so many bytes of the answer.
	FaultCut = "cut"
)

// Fault is what goes wrong with the next requests of a route.
type Fault struct {
	// Method is empty for every one. Path is a pattern as path.Match has them, such as
	// /v2/sandboxes/sessions/*/cmd.
	Method string `json:"method"`
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	// Times is how often; 0: once.
	Times int `json:"times"`
	// Status, Code, Message and RetryAfter, in seconds, are of FaultStatus.
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Message    string `json:"message"`
	RetryAfter int    `json:"retryAfter"`
	// DelayMS is of FaultSlow, Bytes of FaultCut.
	DelayMS int `json:"delayMs"`
	Bytes   int `json:"bytes"`
}

func (f *Fault) check() error {
	if _, err := path.Match(f.Path, ""); err != nil || f.Path == "" {
		return errors.New("path: want a pattern such as /v3/sandboxes")
	}
	switch f.Kind {
	case FaultLost, FaultRefused:
	case FaultStatus:
		if f.Status < 400 || f.Status > 599 {
			return errors.New("status: want 400 to 599")
		}
	case FaultSlow:
		if f.DelayMS < 1 {
			return errors.New("delayMs: want 1 or more")
		}
	case FaultCut:
		if f.Bytes < 0 {
			return errors.New("bytes: want 0 or more")
		}
	default:
		return errors.New("kind: want status, lost, refused, slow or cut")
	}
	return nil
}

// faults are those that are left, oldest first.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Inject adds a fault.
func (s *Simulator) Inject(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	f.Times = max(f.Times, 1)
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &f)
	return nil
}

// take returns the fault that a request meets, if any.
func (f *faults) take(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		hit, _ := path.Match(fault.Path, r.URL.Path) // it was checked
		if !hit || (fault.Method != "" && fault.Method != r.Method) {
			continue
		}
		if fault.Times--; fault.Times == 0 {
			f.list = append(f.list[:i:i], f.list[i+1:]...)
		}
		return fault
	}
	return nil
}

// around serves a request with what goes wrong with it.
func (f *faults) around(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
	fault := f.take(r)
	if fault == nil {
		serve(w)
		return
	}
	switch fault.Kind {
	case FaultStatus:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter)) // [S]: in seconds
		}
		p := refuse(fault.Status, fault.Code, fault.Message)
		if p.code == "" {
			p.code, p.message = codeOf(fault.Status), http.StatusText(fault.Status)
		}
		p.write(w)
	case FaultSlow:
		body, _ := io.ReadAll(r.Body) // until it was read, nobody sees that the client has left
		r.Body = io.NopCloser(bytes.NewReader(body))
		timer := time.NewTimer(time.Duration(fault.DelayMS) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		serve(w)
	case FaultLost:
		serve(&nowhere{header: http.Header{}})
		panic(http.ErrAbortHandler)
	case FaultRefused:
		panic(http.ErrAbortHandler)
	case FaultCut:
		serve(&scissors{ResponseWriter: w, left: fault.Bytes})
		panic(http.ErrAbortHandler)
	}
}

// codeOf is the vendor's code for a status [D, REST API errors].
func codeOf(status int) string {
	switch status {
	case http.StatusTooManyRequests:
		return "rate_limited"
	case http.StatusPaymentRequired:
		return "payment_required"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "not_found"
	}
	if status >= http.StatusInternalServerError {
		return "internal_server_error"
	}
	return "bad_request"
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

// Evict ends a sandbox's session as if its machine had been taken away, and reports
// whether there was one.
func (s *Simulator) Evict(ctx context.Context, name string) (bool, error) {
	s.mu.Lock()
	sb := s.sandboxes[name]
	if sb == nil || sb.session.status != running {
		s.mu.Unlock()
		return false, nil
	}
	sn := sb.session
	s.halt(sn, aborted)
	s.mu.Unlock()
	return true, s.release(ctx, sn)
}

// state counts sandboxes by what their sessions are.
func (s *Simulator) state() map[string]any {
	s.mu.Lock()
	byStatus := map[string]int{}
	for _, sb := range s.sandboxes {
		byStatus[sb.session.status]++
	}
	s.mu.Unlock()
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return map[string]any{"sandboxes": byStatus, "faults": len(s.faults.list)}
}

// admin serves what is below adminPrefix.
func (s *Simulator) admin(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, adminPrefix) {
	case "GET state":
		answer(w, http.StatusOK, s.state())
	case "POST faults":
		var f Fault
		err := json.NewDecoder(r.Body).Decode(&f)
		if err == nil {
			err = s.Inject(f)
		}
		if err != nil {
			badRequest(err.Error()).write(w)
			return
		}
		answer(w, http.StatusOK, s.state())
	case "DELETE faults":
		s.faults.mu.Lock()
		s.faults.list = nil
		s.faults.mu.Unlock()
		answer(w, http.StatusOK, s.state())
	case "POST evict":
		var b struct {
			Name string `json:"name"`
		}
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			badRequest(err.Error()).write(w)
			return
		}
		evicted, err := s.Evict(r.Context(), b.Name)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case !evicted:
			notFound("no sandbox named " + b.Name + " runs").write(w)
		default:
			answer(w, http.StatusOK, s.state())
		}
	default:
		notFound("want GET state, POST or DELETE faults, or POST evict").write(w)
	}
}
