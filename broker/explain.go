package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// PlanSandbox says where CreateSandbox would put a sandbox, and makes nothing.
// That no provider will do is an answer too.
func (s *Service) PlanSandbox(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Placement, error) {
	if err := validateCreate(req); err != nil {
		return nil, err
	}
	who, err := s.maker(ctx)
	if err != nil {
		return nil, err
	}
	if req, err = asCaller(who, req); err != nil {
		return nil, err
	}
	place, _, err := s.decide(ctx, req, false)
	if len(place.GetCandidates()) > 0 {
		return place, nil
	}
	return nil, err
}

// ExplainSandbox says why a sandbox is where it is.
func (s *Service) ExplainSandbox(ctx context.Context, idOrName string) (*brokerv1.Placement, error) {
	sb, err := s.find(ctx, idOrName)
	if err != nil {
		return nil, err
	}
	place, err := s.store.Placement(ctx, sb.ID())
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, notFound(idOrName)
	case err != nil:
		return nil, state.Fault(err)
	case place != nil:
		return place, nil
	}
	place = &brokerv1.Placement{DecidedAt: proto.CloneOf(sb.Body.GetCreatedAt()), Provider: sb.Body.GetProvider()}
	place.Note = "it was made before the broker kept such records"
	if parent := sb.Body.GetParentId(); parent != "" {
		place.Note = fmt.Sprintf("it was made from %s, which is there", parent)
	}
	return place, nil
}

// unsuited is the refusal of the only provider that was asked for: as it would
// refuse itself, where it can know.
func unsuited(name string, set provider.Set, place *brokerv1.Placement) error {
	for _, c := range place.GetCandidates() {
		if c.GetProvider() != name || len(c.GetObstacles()) == 0 {
			continue
		}
		o := c.GetObstacles()[0]
		switch o.GetRule() {
		case brokerv1.PlacementRule_PLACEMENT_RULE_POLICY, brokerv1.PlacementRule_PLACEMENT_RULE_POLICY_UNDECIDED:
			return fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "provider %q may not make this sandbox: %s", name, o.GetMessage()).
				With("provider", name).With("rule", o.GetPolicyRule())
		case brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_MISSING, brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_DISABLED:
			return set.Need(o.GetCapability(), o.GetField())
		case brokerv1.PlacementRule_PLACEMENT_RULE_LIMIT:
			return fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "provider %q cannot make this sandbox: %s", name, o.GetMessage()).
				With("provider", name).With(fault.MetaField, o.GetField()).With(fault.MetaCapability, o.GetCapability())
		default:
			return fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "provider %q cannot take this sandbox: %s", name, o.GetMessage()).
				With("provider", name).With(fault.MetaField, o.GetField())
		}
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED, "provider %q is not configured", name).With("provider", name)
}

// passing reports whether a rule is about now, so that waiting may help.
func passing(rule brokerv1.PlacementRule) bool {
	switch rule {
	case brokerv1.PlacementRule_PLACEMENT_RULE_NOT_READY, brokerv1.PlacementRule_PLACEMENT_RULE_COOLING_DOWN,
		brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_OPEN, brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_PROBING:
		return true
	default:
		return false
	}
}

// noProvider is the refusal of all. Where waiting may help it says so, and for
// how long.
func noProvider(place *brokerv1.Placement, now time.Time) error {
	var why []string
	var soonest time.Time
	waits, cooling := false, false
	for _, c := range place.GetCandidates() {
		why = append(why, c.GetProvider()+": "+c.GetObstacles()[0].GetMessage())
		until, wait, cool := passes(c.GetObstacles())
		if !wait {
			continue
		}
		waits, cooling = true, cooling || cool
		if soonest.IsZero() || !until.IsZero() && until.Before(soonest) {
			soonest = until
		}
	}
	reason := providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE
	text := "no provider can make this sandbox"
	rules, policy := denying(place)
	switch {
	case cooling:
		reason, text = providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "no provider can make this sandbox now"
	case waits:
		reason, text = providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "no provider can make this sandbox now"
	case policy:
		reason, text = providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "no provider may make this sandbox"
	}
	f := fault.New(reason, "%s: %s", text, strings.Join(why, "; ")).WithEffect(providerv1.Effect_EFFECT_NONE).
		With("remedy", "`sandbar create --dry-run` with the same flags shows all that stands in the way at each provider")
	if len(rules) > 0 {
		f = f.With("rule", strings.Join(rules, ","))
	}
	if soonest.After(now) {
		f = f.WithRetryAfter(soonest.Sub(now))
	}
	return f
}

// denying returns the policy rules that rule providers out. policy is true if it
// is because of them that none is left: a provider could make it but for them, or
// one of them could not be decided.
func denying(place *brokerv1.Placement) (rules []string, policy bool) {
	for _, c := range place.GetCandidates() {
		only := true
		for _, o := range c.GetObstacles() {
			switch o.GetRule() {
			case brokerv1.PlacementRule_PLACEMENT_RULE_POLICY_UNDECIDED:
				policy = true
			case brokerv1.PlacementRule_PLACEMENT_RULE_POLICY:
			default:
				only = false
				continue
			}
			if !slices.Contains(rules, o.GetPolicyRule()) {
				rules = append(rules, o.GetPolicyRule())
			}
		}
		policy = policy || only
	}
	return rules, policy
}

// passes reports whether all obstacles go away, and when the last one does; zero
// if nobody knows.
func passes(obstacles []*brokerv1.PlacementObstacle) (until time.Time, wait, cooling bool) {
	known := true
	for _, o := range obstacles {
		if !passing(o.GetRule()) {
			return time.Time{}, false, false
		}
		cooling = cooling || o.GetRule() == brokerv1.PlacementRule_PLACEMENT_RULE_COOLING_DOWN
		if o.GetUntil() == nil {
			known = false
		} else if t := o.GetUntil().AsTime(); t.After(until) {
			until = t
		}
	}
	if !known {
		until = time.Time{}
	}
	return until, true, cooling
}
