package server

import (
	"log"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// activity knows whether calls are open, and since when none is.
type activity struct {
	mu   sync.Mutex
	open int
	last time.Time
}

// counted makes calls count. Health checks are not use.
func (a *activity) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			next.ServeHTTP(w, r)
			return
		}
		a.add(1)
		defer a.add(-1)
		next.ServeHTTP(w, r)
	})
}

func (a *activity) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open += n
	a.last = time.Now()
}

// idleSince returns since when no call is open; false while one is.
func (a *activity) idleSince() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, a.open == 0
}

// slogErrors gives net/http's own complaints, which are about clients, to slog.
type slogErrors struct{ log *slog.Logger }

func (s *slogErrors) logger() *log.Logger { //nolint:forbidigo // what net/http takes
	return slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
}
