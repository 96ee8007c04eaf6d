package daytona

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/faults"
)

// adminPrefix is below which the simulator itself is spoken to:
//
//	GET    /_simulator/state    what there is: sandboxes by state, and faults left
//	POST   /_simulator/faults   adds a fault
//	DELETE /_simulator/faults   takes all back
//	POST   /_simulator/evict    {"name": …}: the machine of a sandbox fails
const adminPrefix = "/_simulator/"

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

// Evict puts a sandbox into state error as if its machine had failed, and reports
// whether one of that name ran.
func (s *Simulator) Evict(ctx context.Context, name string) (bool, error) {
	s.mu.Lock()
	sb := s.find(name)
	if sb == nil || sb.state != started {
		s.mu.Unlock()
		return false, nil
	}
	g := s.halt(sb, failed)
	sb.errorReason = "The runner of the sandbox was lost"
	s.mu.Unlock()
	return true, g.Delete(ctx)
}

// Sessions is how many sessions all sandboxes have.
func (s *Simulator) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sb := range s.sandboxes {
		n += len(sb.sessions)
	}
	return n
}

// state counts sandboxes by their state.
func (s *Simulator) state() map[string]any {
	s.mu.Lock()
	byState := map[string]int{}
	for _, sb := range s.sandboxes {
		byState[sb.state]++
	}
	s.mu.Unlock()
	return map[string]any{"sandboxes": byState, "faults": s.faults.Len()}
}

// admin serves what is below adminPrefix.
func (s *Simulator) admin(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, adminPrefix) {
	case "GET state":
	case "POST faults", "DELETE faults":
		err = s.faults.Serve(r)
	case "POST evict":
		var b struct {
			Name string `json:"name"`
		}
		if err = json.NewDecoder(r.Body).Decode(&b); err != nil {
			break
		}
		evicted, failure := s.Evict(r.Context(), b.Name)
		switch {
		case failure != nil:
			s.fail(w, r, failure, false)
			return
		case !evicted:
			refuse(http.StatusNotFound, "no sandbox named "+b.Name+" runs").write(w, r)
			return
		}
	default:
		refuse(http.StatusNotFound, "want GET state, POST or DELETE faults, or POST evict").write(w, r)
		return
	}
	if err != nil {
		badRequest(err.Error()).write(w, r)
		return
	}
	answer(w, http.StatusOK, s.state())
}
