package broker

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// What follows is for brokers that share a store. Each serves any call, and each
// does what falls due; a lock per sandbox keeps them from doing it twice, and what
// a killed one left unfinished falls due for the others.
const (
	// lockPollFirst and lockPollMax bound how often a lock that another broker has is
	// tried.
	lockPollFirst = 5 * time.Millisecond
	lockPollMax   = 250 * time.Millisecond
)

// locks are the operation locks of sandboxes: among the callers of this broker, in
// order of arrival, and among brokers.
type locks struct {
	own   keyLocks
	store state.Locks
	// owner keeps apart what the brokers of other stores lock in the same database.
	owner string
}

// lock waits for a lock until ctx ends.
func (l *locks) lock(ctx context.Context, id string) (unlock func(), err error) {
	free, ok := l.own.lock(ctx, id)
	if !ok {
		return nil, inProgress(id)
	}
	for wait := lockPollFirst; ; wait = min(2*wait, lockPollMax) {
		give, ok, err := l.store.TryLock(ctx, l.owner+" "+id)
		if ok {
			return func() { give(); free() }, nil
		}
		if err != nil {
			free()
			return nil, state.Fault(err)
		}
		if !pause(ctx, wait) {
			free()
			return nil, inProgress(id)
		}
	}
}

// tryLock takes a lock if nobody has it.
func (l *locks) tryLock(ctx context.Context, id string) (unlock func(), ok bool, err error) {
	free, ok := l.own.tryLock(id)
	if !ok {
		return nil, false, nil
	}
	give, ok, err := l.store.TryLock(ctx, l.owner+" "+id)
	if !ok {
		free()
		return nil, false, err
	}
	return func() { give(); free() }, true, nil
}

func inProgress(id string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
		"another operation on %s is in progress and did not end in time", id).
		With("sandbox_id", id).WithEffect(providerv1.Effect_EFFECT_NONE)
}

// takeoverAt is when somebody has to look at a sandbox with an operation that begins
// now; zero: its own broker will, also after a restart.
func (s *Service) takeoverAt() time.Time {
	if !s.store.Shared() {
		return time.Time{}
	}
	return time.Now().Add(s.opts.Takeover)
}

// idleGrace is how much longer than its timeout a sandbox must be idle: it may be in
// use by another broker, which stores that when the timeout is over.
func (s *Service) idleGrace() time.Duration {
	if !s.store.Shared() {
		return 0
	}
	return 3 * s.opts.ReplicaLag
}

// keepUp takes over what other brokers on the store have learnt.
func (s *Service) keepUp(ctx context.Context) {
	s.logged(ctx, "measurements of other brokers cannot be read", s.measures.refresh(ctx, s.store))
}

// refresh takes over what other brokers have measured and counted, except of
// providers of which this one knows something that is not stored yet.
func (m *measures) refresh(ctx context.Context, store state.Store) error {
	measured, err := store.Measurements(ctx)
	if err != nil {
		return err
	}
	live, err := store.CountSandboxes(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, is := range measured {
		if !m.dirty[name] {
			m.measured[name] = is
		}
	}
	m.live = live
	return nil
}
