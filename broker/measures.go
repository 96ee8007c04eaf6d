package broker

import (
	"context"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// flushEvery bounds how much of what was measured a crash forgets, at one small
// write for all creations in that time. What keeps others off a provider is
// stored at once.
const flushEvery = 10 * time.Second

// measures is what the broker knows about its providers beside what they declare.
type measures struct {
	mu       sync.Mutex
	measured map[string]placement.Measurement
	// live counts sandboxes that are not gone.
	live map[string]int
	// probing has the providers with a half-open circuit that somebody tries.
	probing map[string]bool
	// dirty has what is not stored; since when, and whether that is urgent.
	dirty  map[string]bool
	since  time.Time
	urgent bool
}

func (m *measures) load(ctx context.Context, store state.Store) (err error) {
	m.probing, m.dirty = make(map[string]bool), make(map[string]bool)
	if m.measured, err = store.Measurements(ctx); err != nil {
		return err
	}
	m.live, err = store.CountSandboxes(ctx)
	return err
}

// add counts sandboxes that came, or went.
func (m *measures) add(provider string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[provider] += n
}

// place ranks candidates with all that was measured. With claim, the one that is
// chosen is claimed in the same moment; release ends that.
func (m *measures) place(req placement.Requirements, candidates []placement.Candidate, now time.Time, claim bool) (p *brokerv1.Placement, release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range candidates {
		c := &candidates[i]
		c.Measured, c.Live, c.Probing = m.measured[c.Name], m.live[c.Name], m.probing[c.Name]
	}
	p, release = placement.Place(req, candidates, now), func() {}
	if claim && p.GetProvider() != "" && req.Provider == "" {
		release, _ = m.claimLocked(p.GetProvider(), now)
	}
	return p, release
}

// claim reports whether a provider may be tried: with a half-open circuit only if
// nobody else does, until release is called.
func (m *measures) claim(provider string, now time.Time) (release func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claimLocked(provider, now)
}

func (m *measures) claimLocked(provider string, now time.Time) (release func(), ok bool) {
	circuit := m.measured[provider].Circuit(now)
	if circuit == placement.Closed {
		return func() {}, true
	}
	if circuit == placement.Open || m.probing[provider] {
		return nil, false
	}
	m.probing[provider] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.probing, provider)
	}, true
}

// circuits returns the state of each provider's circuit.
func (m *measures) circuits(providers []string, now time.Time) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]string, len(providers))
	for _, name := range providers {
		out[name] = m.measured[name].Circuit(now).String()
	}
	return out
}

// record takes what a creation says about a provider. It reports whether that is
// to be stored at once.
func (m *measures) record(provider string, now time.Time, took time.Duration, f *fault.Error) (urgent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.measured[provider]
	after := before.After(now, took, f)
	if after == before {
		return false
	}
	m.measured[provider] = after
	if len(m.dirty) == 0 {
		m.since = time.Now()
	}
	m.dirty[provider] = true
	m.urgent = m.urgent || !after.CoolUntil.Equal(before.CoolUntil) || !after.OpenUntil.Equal(before.OpenUntil)
	return m.urgent
}

// flushAt returns when something is to be stored; never is far away.
func (m *measures) flushAt(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(m.dirty) == 0:
		return now.Add(time.Hour)
	case m.urgent:
		return m.since
	default:
		return m.since.Add(flushEvery)
	}
}

// flush stores what is not stored. If that fails it is tried again as if it had
// just been measured.
func (m *measures) flush(ctx context.Context, store state.Measurements) error {
	m.mu.Lock()
	out := make(map[string]placement.Measurement, len(m.dirty))
	for provider := range m.dirty {
		out[provider] = m.measured[provider]
	}
	clear(m.dirty)
	m.urgent = false
	m.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	err := store.PutMeasurements(ctx, out)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.since = time.Now()
		for provider := range out {
			m.dirty[provider] = true
		}
	}
	return err
}

// trial is the outcome of a creation at one provider. Methods of nil do nothing.
type trial struct {
	clock func() time.Time
	began time.Time
	// said is the provider's error, or what its FAILED sandbox amounts to.
	said *fault.Error
	// took is set if a sandbox was made and runs.
	took time.Duration
	done bool
}

func newTrial(clock func() time.Time) *trial { return &trial{clock: clock, began: clock()} }

func (t *trial) failed(f *fault.Error) {
	if t != nil {
		t.said, t.done = f, true
	}
}

// made takes the state that a creation ended in. One that goes on without its
// caller says nothing.
func (t *trial) made(st lifecycle.Status) {
	switch {
	case t == nil:
	case st.State == providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		t.took, t.done = t.clock().Sub(t.began), true
	case st.State == providerv1.SandboxState_SANDBOX_STATE_FAILED:
		t.failed(failedSandbox(st))
	}
}

// failedSandbox is what a sandbox that ended FAILED amounts to.
func failedSandbox(st lifecycle.Status) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_STATE_LOST, "the sandbox failed: %s", st.Reason)
}
