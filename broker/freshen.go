package broker

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
)

const (
	// freshFor is how old an answer about a page of sandboxes may be. A sandbox
	// that died by itself shows within this time, and whoever polls a listing
	// does not pass every look on to a vendor.
	freshFor = 2 * time.Second
	// freshenBudget is how long a listing waits for providers; after it the last
	// known states are the answer.
	freshenBudget = 2 * time.Second
)

// freshness remembers when pages were last compared with their providers.
type freshness struct {
	mu sync.Mutex
	at map[string]time.Time
}

// claim reports whether key is due, and if so counts it as done.
func (f *freshness) claim(key string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.at[key]) < freshFor {
		return false
	}
	maps.DeleteFunc(f.at, func(_ string, at time.Time) bool { return now.Sub(at) >= freshFor })
	if f.at == nil {
		f.at = make(map[string]time.Time)
	}
	f.at[key] = now
	return true
}

// freshen compares a page with what its providers say now, because a sandbox can
// die without anybody asking it to. It reports whether providers were asked. A
// provider that does not answer is no error here: view says what that means.
func (s *Service) freshen(ctx context.Context, page string, rows []*state.Sandbox) bool {
	byProvider := map[string][]*state.Sandbox{}
	for _, sb := range rows {
		if name := sb.Body.GetProvider(); sb.Status.Pending == lifecycle.None && s.unverified(name) == "" {
			byProvider[name] = append(byProvider[name], sb)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, freshenBudget)
	defer cancel()
	asked := false
	var g errgroup.Group
	for name, rows := range byProvider {
		p, ok := s.providers.Provider(name)
		if !ok || !s.fresh.claim(name+"\x00"+page, time.Now()) {
			continue
		}
		asked = true
		g.Go(func() error {
			if err := s.verifyPage(ctx, p, rows); err != nil {
				s.log.DebugContext(ctx, "listing shows the last known states", "provider", name, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait()
	return asked
}
