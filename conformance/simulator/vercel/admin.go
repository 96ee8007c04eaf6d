package vercel

import (
	"context"
	"net/http"
	"strconv"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/faults"
)

// Fault is what goes wrong with the next requests of a route; its path is without
// /api.
type Fault = faults.Fault

// Kinds of faults.
const (
	FaultStatus  = faults.Status
	FaultLost    = faults.Lost
	FaultRefused = faults.Refused
	FaultSlow    = faults.Slow
	FaultCut     = faults.Cut
)

// Inject adds a fault.
func (s *Simulator) Inject(f Fault) error { return s.faults.Add(f) }

// sayFault answers with the status of a fault.
func sayFault(w http.ResponseWriter, f *Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter)) // [S]: in seconds
	}
	p := refuse(f.Status, f.Code, f.Message)
	if p.code == "" {
		p.code, p.message = codeOf(f.Status), http.StatusText(f.Status)
	}
	p.write(w)
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
func (s *Simulator) state() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	byStatus := map[string]int{}
	for _, sb := range s.sandboxes {
		byStatus[sb.session.status]++
	}
	return byStatus
}
