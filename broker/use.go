package broker

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// lease is the right to do something inside one sandbox. While it is open the
// sandbox is not idle.
type lease struct {
	*provider.Provider
	ref *providerv1.SandboxRef

	s  *Service
	id string
}

// lookup resolves the sandbox a request names, and its provider.
func (s *Service) lookup(ctx context.Context, ref *providerv1.SandboxRef) (*state.Sandbox, *provider.Provider, error) {
	sb, err := s.findLive(ctx, ref.GetSandboxId())
	if err != nil {
		return nil, nil, err
	}
	p, err := s.provider(sb.Body.GetProvider())
	if err != nil {
		return nil, nil, withID(err, sb.ID())
	}
	return sb, p, nil
}

// use resolves the sandbox a request names and makes sure that it runs. One that
// is paused and whose idle policy is to pause is resumed; any other that does
// not run is refused with its state. The lease must be closed.
func (s *Service) use(ctx context.Context, ref *providerv1.SandboxRef) (*lease, error) {
	sb, p, err := s.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	id := sb.ID()
	about(ctx, sb)
	s.beginUse(ctx, id)
	if !usableNow(sb) {
		if sb, err = s.makeUsable(ctx, id); err != nil {
			s.uses.end(id, time.Now())
			return nil, withID(err, id)
		}
	}
	return &lease{Provider: p, ref: sb.Ref(), s: s, id: id}, nil
}

func (s *Service) beginUse(ctx context.Context, id string) {
	now := time.Now()
	if s.uses.begin(id, now) {
		s.storeUse(ctx, id, now)
	}
}

// storeUse stores a use on the side: a write waits for the disk, and no command
// should wait for that. It is best effort, since what it stores is also known in
// memory; a service that closes waits for it. One that is killed within the few
// milliseconds of the write finds an older time, as it does for every use within
// touchInterval.
func (s *Service) storeUse(ctx context.Context, id string, at time.Time) {
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return // the last uses are stored by Close
	}
	go func() {
		defer end()
		if err := s.store.TouchSandbox(opCtx, id, at); err != nil {
			s.log.WarnContext(opCtx, "time of last use is not stored", "sandbox_id", id, "error", err)
		}
	}()
}

// close ends the use and looks at how it ended: an error that contradicts what
// is stored makes the reconciler ask the provider.
func (l *lease) close(ctx context.Context, err error) error {
	now := time.Now()
	if l.s.uses.end(l.id, now) {
		l.s.storeUse(ctx, l.id, now)
	}
	if err == nil {
		return nil
	}
	f := fault.From(err)
	switch f.Reason {
	case providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING,
		providerv1.ErrorReason_ERROR_REASON_SANDBOX_EXPIRED, providerv1.ErrorReason_ERROR_REASON_STATE_LOST:
		l.s.recheck.push(l.id)
		l.s.poke()
	}
	return f
}

func usableNow(sb *state.Sandbox) bool {
	_, _, err := lifecycle.Step(sb.Status, lifecycle.AskUse())
	return err == nil
}

// makeUsable queues behind operations on the sandbox, then sees to it that it
// runs.
func (s *Service) makeUsable(ctx context.Context, id string) (*state.Sandbox, error) {
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := s.findLive(opCtx, id)
	if err != nil {
		return nil, err
	}
	return sb, s.usable(opCtx, sb)
}

// usable makes a sandbox whose lock is held usable, or refuses.
func (s *Service) usable(ctx context.Context, sb *state.Sandbox) error {
	if err := s.sure(ctx, sb); err != nil {
		return err
	}
	if sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_PAUSED && sb.Body.GetIdle().GetAction() == brokerv1.IdleAction_IDLE_ACTION_PAUSE {
		if err := s.resumeLocked(ctx, sb); err != nil {
			return err
		}
	}
	if !usableNow(sb) {
		return refusedState(sb)
	}
	return nil
}
