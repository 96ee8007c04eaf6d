package daytona

import (
	"net/http"
	"strconv"
	"time"
)

// window counts requests in a minute that begins with the first of them [O].
type window struct {
	until time.Time
	used  int
}

// admitCreate counts a request for a sandbox, and refuses one too many. The headers
// name the throttler that limits [O].
func (s *Simulator) admitCreate(w http.ResponseWriter) error {
	s.mu.Lock()
	now := time.Now()
	if now.After(s.window.until) {
		s.window = window{until: now.Add(time.Minute)}
	}
	s.window.used++
	left, reset := s.opts.Creates-s.window.used, int(time.Until(s.window.until).Seconds())+1
	s.mu.Unlock()
	const throttler = "sandbox-create"
	w.Header().Set("X-RateLimit-Limit-"+throttler, strconv.Itoa(s.opts.Creates))
	w.Header().Set("X-RateLimit-Remaining-"+throttler, strconv.Itoa(max(0, left)))
	w.Header().Set("X-RateLimit-Reset-"+throttler, strconv.Itoa(reset))
	if left >= 0 {
		return nil
	}
	w.Header().Set("Retry-After", strconv.Itoa(reset))
	w.Header().Set("Retry-After-"+throttler, strconv.Itoa(reset))
	return refuse(http.StatusTooManyRequests, "ThrottlerException: Too Many Requests")
}
