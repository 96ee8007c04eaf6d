package daytona

import (
	"context"

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
func (s *Simulator) state() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	byState := map[string]int{}
	for _, sb := range s.sandboxes {
		byState[sb.state]++
	}
	return byState
}
