package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// apply feeds an event to a sandbox and stores the outcome. The sandbox's lock
// is held by the caller.
func (s *Service) apply(ctx context.Context, sb *state.Sandbox, ev lifecycle.Event) ([]lifecycle.Action, error) {
	next, actions, err := lifecycle.Step(sb.Status, ev)
	if err != nil {
		return nil, withID(err, sb.ID())
	}
	return actions, s.save(ctx, sb, next, actions)
}

// save stores a new status together with whatever else changed in sb.
func (s *Service) save(ctx context.Context, sb *state.Sandbox, next lifecycle.Status, actions []lifecycle.Action) error {
	before := sb.Status
	sb.Status = next
	sb.Events = changed(ctx, sb, before)
	s.meter(sb, before)
	switch {
	case next.Gone && before.Gone:
		return nil
	case next.Gone:
		return s.saveGone(ctx, sb, before)
	case slices.Contains(actions, lifecycle.Ask):
		sb.RetryAt = time.Now().Add(s.backoff(sb.Attempts))
		sb.Attempts++
	case next.Settled():
		sb.RetryAt, sb.Attempts = time.Time{}, 0
	default:
		sb.RetryAt = s.takeoverAt()
	}
	if err := s.store.UpdateSandbox(ctx, sb); err != nil {
		s.recheck.push(sb.ID())
		if errors.Is(err, state.ErrNameTaken) {
			return nameTaken(cmp.Or(sb.Heir, sb).Body.GetName())
		}
		return state.Fault(err)
	}
	s.told(ctx, sb, before)
	s.poke()
	return nil
}

// saveGone ends a row. One that was never made leaves no trace, so that its
// name and its idempotency key are free again; others leave a tombstone, which
// answers a late repetition of the request.
func (s *Service) saveGone(ctx context.Context, sb *state.Sandbox, before lifecycle.Status) error {
	s.uses.forget(sb.ID())
	var err error
	if before.Pending == lifecycle.Create {
		err = s.store.RemoveSandbox(ctx, sb)
	} else {
		sb.GoneAt, sb.RetryAt = time.Now(), time.Time{}
		err = s.store.UpdateSandbox(ctx, sb)
	}
	if err != nil {
		s.recheck.push(sb.ID())
		return state.Fault(err)
	}
	s.told(ctx, sb, before)
	s.measures.add(sb.Body.GetProvider(), -1)
	return nil
}

// backoffDoublings bounds the back-off at 256 times the first one.
const backoffDoublings = 8

func (s *Service) backoff(attempts int) time.Duration {
	return s.opts.Retry << min(attempts, backoffDoublings)
}

// observe takes over what the provider says and reports whether that changed
// anything. A provider that leaves out the handle keeps the old one, and an
// earlier end of life than ours is the truth.
func observe(sb *state.Sandbox, vendor *providerv1.Sandbox) (changed bool) {
	if vendor == nil {
		return false
	}
	old := sb.Body.GetObserved()
	if vendor.GetHandle() == nil {
		vendor.Handle = old.GetHandle()
	}
	if vendor.GetOperation() == nil {
		vendor.Operation = old.GetOperation()
	}
	if end := vendor.GetExpiresAt(); end != nil && (sb.Expires().IsZero() || end.AsTime().Before(sb.Expires())) {
		sb.Body.ExpiresAt = end
		changed = true
	}
	if proto.Equal(old, vendor) {
		return changed
	}
	sb.Body.Observed, sb.Body.ObservedAt = vendor, timestamppb.Now()
	return true
}

// observed is the event that an answer of the provider makes.
func observed(vendor *providerv1.Sandbox) lifecycle.Event {
	return lifecycle.Observed(vendor.GetState(), vendor.GetStatusReason())
}

// failure is the event that an error of the pending operation makes.
func failure(f *fault.Error) lifecycle.Event {
	if f.Effect == providerv1.Effect_EFFECT_NONE {
		return lifecycle.Refused(f.Message, refusedForGood(f))
	}
	return lifecycle.Lost(f.Message)
}

// refusedForGood reports whether an operation had no effect and would have none if it
// were repeated.
func refusedForGood(f *fault.Error) bool {
	return f.Effect == providerv1.Effect_EFFECT_NONE && (f.Retry() == providerv1.Retry_RETRY_NO || f.Retry() == providerv1.Retry_RETRY_AFTER_CHANGE)
}

// withID says which sandbox an error is about.
func withID(err error, id string) error {
	f := fault.From(err)
	if f == nil || f.Metadata["sandbox_id"] != "" {
		return err
	}
	return f.With("sandbox_id", id)
}

// ask asks the provider what is true about a sandbox and applies the answer.
// The sandbox's lock is held by the caller. The error is one of the store's: a
// provider that cannot be asked is an answer too.
func (s *Service) ask(ctx context.Context, sb *state.Sandbox) ([]lifecycle.Action, error) {
	return s.applySettlement(ctx, sb, s.look(ctx, sb))
}

// look asks by key while it is not known whether the sandbox was made: absence
// is final then, since the provider honours a key no more that it denied. The
// copies of a fork share their key, and are all there if one is.
func (s *Service) look(ctx context.Context, sb *state.Sandbox) provider.Settlement {
	p, err := s.provider(sb.Body.GetProvider())
	if err != nil {
		return provider.Settlement{Cause: fault.From(err)}
	}
	if sb.Status.Undecided() {
		made := p.Settle(ctx, sb.Operation.GetIdempotencyKey())
		if made.Outcome != provider.Found || made.Sandbox.GetIdentity().GetSandboxId() == sb.ID() {
			return made
		}
	}
	return p.Look(ctx, sb.Ref())
}

func (s *Service) applySettlement(ctx context.Context, sb *state.Sandbox, truth provider.Settlement) ([]lifecycle.Action, error) {
	switch truth.Outcome {
	case provider.Found:
		return s.applyObserved(ctx, sb, truth.Sandbox)
	case provider.Absent:
		return s.applyAbsent(ctx, sb)
	default:
		return s.apply(ctx, sb, lifecycle.Unreachable(truth.Cause.Message))
	}
}

// applyObserved applies what the provider says, and writes only if it is new.
func (s *Service) applyObserved(ctx context.Context, sb *state.Sandbox, vendor *providerv1.Sandbox) ([]lifecycle.Action, error) {
	changed := observe(sb, vendor)
	next, actions, err := lifecycle.Step(sb.Status, observed(vendor))
	if err != nil {
		return nil, err
	}
	if !changed && known(sb, next) {
		return actions, nil
	}
	return actions, s.save(ctx, sb, next, actions)
}

// known reports whether a status is the one that is stored and leaves nothing to do.
func known(sb *state.Sandbox, next lifecycle.Status) bool {
	return next == sb.Status && next.Settled() && sb.RetryAt.IsZero() && counted(sb, next)
}

// news reports whether what the provider says of a sandbox would change anything.
func news(sb *state.Sandbox, vendor *providerv1.Sandbox) bool {
	if observe(sb.Clone(), vendor) {
		return true
	}
	next, _, err := lifecycle.Step(sb.Status, observed(vendor))
	return err != nil || !known(sb, next)
}

// applyAbsent applies the provider's proof that it has no such sandbox. One that
// outlived its time was ended by the provider, as agreed.
func (s *Service) applyAbsent(ctx context.Context, sb *state.Sandbox) ([]lifecycle.Action, error) {
	if end := sb.Expires(); !end.IsZero() && !time.Now().Before(end) && !sb.Status.Gone {
		status, _, err := lifecycle.Step(sb.Status, lifecycle.AskDelete("its lifetime ended"))
		if err != nil {
			return nil, err
		}
		sb.Status = status
	}
	return s.apply(ctx, sb, lifecycle.Absent(""))
}
