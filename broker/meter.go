package broker

import (
	"time"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// rate is what a sandbox at a provider is counted and priced by.
func (s *Service) rate(name string, spec *providerv1.SandboxSpec) *brokerv1.Rate {
	p := s.policy(name)
	return p.Book.Rate(price.Count(spec, p.Assumed))
}

// demand makes the tenant's limits be asked when a new sandbox is stored. They have
// counted the request already if other providers refused it.
func (s *Service) demand(sb *state.Sandbox) {
	sb.Body.Rate = s.rate(sb.Body.GetProvider(), sb.Body.GetSpec())
	sb.Admission = &quota.Demand{At: s.opts.Clock(), New: true, Again: len(sb.Placement.GetAttempts()) > 0, Rate: sb.Body.GetRate()}
}

// meter counts what a sandbox used until its status changed, which is stored with
// the change.
func (s *Service) meter(sb *state.Sandbox, before lifecycle.Status) {
	if counted(sb, sb.Status) {
		return
	}
	if sb.Body.GetRate() == nil {
		// It was made before there were rates, and has started long ago.
		rate := s.rate(sb.Body.GetProvider(), sb.Body.GetSpec())
		if rate.GetPrice() != nil {
			rate.Price.StartMicros = 0
		}
		sb.Body.Rate = rate
	}
	at := s.opts.Clock()
	if before.Undecided() && before.State == providerv1.SandboxState_SANDBOX_STATE_UNKNOWN {
		at = startedAt(sb, at)
	}
	var used []metering.Piece
	sb.Meter, used = sb.Meter.Step(metering.PhaseOf(sb.Meter.Phase, sb.Status), at, sb.Body.GetRate())
	sb.Used = append(sb.Used, used...)
}

// counted reports whether a sandbox is counted already as what a status says.
func counted(sb *state.Sandbox, st lifecycle.Status) bool {
	return metering.PhaseOf(sb.Meter.Phase, st) == sb.Meter.Phase
}

// startedAt returns since when a sandbox has been there of which nobody knew for a
// while whether it was made: since its provider says, if that can be.
func startedAt(sb *state.Sandbox, now time.Time) time.Time {
	made := sb.Body.GetObserved().GetCreatedAt()
	if made == nil || made.AsTime().After(now) || made.AsTime().Before(sb.Body.GetCreatedAt().AsTime()) {
		return now
	}
	return made.AsTime()
}
