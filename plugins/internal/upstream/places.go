package upstream

import "sync"

// mostPlaces bounds the memory; they are forgotten all at once, which is simple and
// costs a search each.
const mostPlaces = 100_000

// Places remembers where sandboxes are, by id, so that a call without a handle need
// not search. What it has forgotten is found again. The zero value is ready.
type Places[P any] struct {
	mu   sync.Mutex
	byID map[string]P
}

// Remember notes where a sandbox is.
func (p *Places[P]) Remember(id string, at P) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID == nil || len(p.byID) >= mostPlaces {
		p.byID = map[string]P{}
	}
	p.byID[id] = at
}

// Find returns false for one that is not known.
func (p *Places[P]) Find(id string) (P, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.byID[id]
	return at, ok
}

// Forget removes one.
func (p *Places[P]) Forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byID, id)
}

// ForgetAll removes all.
func (p *Places[P]) ForgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID = nil
}
