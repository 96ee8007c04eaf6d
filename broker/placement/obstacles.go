package placement

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// obstacles returns all that rules a candidate out. One that is not the named
// one has just that obstacle: what else it lacks is of no use to anybody.
func obstacles(req Requirements, c Candidate, rulings []Ruling, now time.Time) []*brokerv1.PlacementObstacle {
	if req.Provider != "" && req.Provider != c.Name {
		return []*brokerv1.PlacementObstacle{another(req)}
	}
	var f finding
	f.configured(req, c)
	f.price(req, c)
	if c.Described != nil {
		f.needs(req, c)
		f.amounts(req, c)
		f.egress(req, c)
	}
	f.rules(rulings)
	f.latency(req, c, now)
	if req.Provider == "" {
		if c.Described != nil {
			f.volumes(req, c)
		}
		f.live(c, now)
	}
	return f.out
}

// another is the obstacle of a candidate that is not the named one.
func another(req Requirements) *brokerv1.PlacementObstacle {
	if req.PinnedBy != "" {
		return &brokerv1.PlacementObstacle{
			Rule: brokerv1.PlacementRule_PLACEMENT_RULE_POLICY, PolicyRule: req.PinnedBy, Message: Pinned(req.PinnedBy, req.Provider),
		}
	}
	return &brokerv1.PlacementObstacle{
		Rule: brokerv1.PlacementRule_PLACEMENT_RULE_NOT_NAMED, Field: "provider",
		Message: fmt.Sprintf("provider is %q: that is another one", req.Provider),
	}
}

// finding collects obstacles.
type finding struct{ out []*brokerv1.PlacementObstacle }

func (f *finding) add(rule brokerv1.PlacementRule, n Need, format string, args ...any) *brokerv1.PlacementObstacle {
	o := &brokerv1.PlacementObstacle{Rule: rule, Field: n.Field, Capability: n.Capability, Message: fmt.Sprintf(format, args...)}
	f.out = append(f.out, o)
	return o
}

// asked is how a message begins.
func asked(n Need) string {
	if n.Value == "" {
		return n.Field + " is set"
	}
	return n.Field + " is " + strconv.Quote(n.Value)
}

// configured is about what the operator wrote.
func (f *finding) configured(req Requirements, c Candidate) {
	if c.Weight <= 0 && req.Provider == "" {
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_WEIGHT_ZERO, Need{}, "its weight is 0: it is for requests that name it")
	}
	for _, key := range slices.Sorted(maps.Keys(req.Labels)) {
		n := Need{Field: "provider_labels[" + key + "]", Value: req.Labels[key]}
		switch have, ok := c.Labels[key]; {
		case !ok:
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_LABEL, n, "%s: it has no such label", asked(n))
		case have != n.Value:
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_LABEL, n, "%s: its label is %q", asked(n), have)
		}
	}
	n := Need{Field: "spec.region", Value: req.Region, Capability: "placement.region"}
	switch {
	case req.Region == "" || req.Region == c.Region:
	case c.Region != "":
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_REGION, n, "%s: it is in %q", asked(n), c.Region)
	case c.Described != nil:
		f.capability(c, n)
	}
}

func (f *finding) needs(req Requirements, c Candidate) {
	for _, n := range req.Needs {
		f.capability(c, n)
	}
}

func (f *finding) capability(c Candidate, n Need) {
	have := declared(c, n.Capability)
	switch {
	case have == nil:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_MISSING, n, "%s: it does not have %s", asked(n), n.Capability)
	case have.GetState() != providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_DISABLED, n, "%s: %s is switched off there, %s", asked(n), n.Capability, have.GetReason())
	}
}

func declared(c Candidate, id string) *providerv1.Capability {
	for _, have := range c.Described.GetCapabilities() {
		if have.GetId() == id {
			return have
		}
	}
	return nil
}

// amounts compares with limits of capabilities that the provider has; that it
// has none of them is told by needs.
func (f *finding) amounts(req Requirements, c Candidate) {
	for _, a := range req.Amounts {
		have := declared(c, a.Capability)
		most, limited := have.GetLimits()[a.Limit]
		if limited && a.N > most && have.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED {
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_LIMIT, a.Need, "%s: its limit is %s", asked(a.Need), a.Show(most))
		}
	}
}

// egress is about the strongest control of what leaves that a provider declares.
func (f *finding) egress(req Requirements, c Candidate) {
	n := Need{Field: "min_egress_strength", Value: strengthName(req.EgressStrength), Capability: "egress.capture"}
	switch req.EgressStrength {
	case providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED:
		f.capability(c, n)
	case providerv1.EgressStrength_EGRESS_STRENGTH_NATIVE, providerv1.EgressStrength_EGRESS_STRENGTH_COOPERATIVE:
		if !supported(c, "egress.capture") && !supported(c, "egress.native") {
			n.Capability = "egress.native"
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_CAPABILITY_MISSING, n, "%s: it has neither egress.capture nor egress.native", asked(n))
		}
	}
}

func strengthName(s providerv1.EgressStrength) string {
	return strings.TrimPrefix(s.String(), "EGRESS_STRENGTH_")
}

func supported(c Candidate, capability string) bool {
	return declared(c, capability).GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED
}

// latency compares with what was measured and with nothing that is only assumed.
// Unlike the rest of what was measured it is a requirement of the request itself,
// so it holds for a named provider as well.
func (f *finding) latency(req Requirements, c Candidate, now time.Time) {
	if req.MaxStartLatency <= 0 {
		return
	}
	n := Need{Field: "max_start_latency", Value: req.MaxStartLatency.String()}
	took, known := c.Measured.Measured(now)
	switch {
	case known && took > req.MaxStartLatency:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_START_LATENCY, n, "%s: its recent creations took %s", asked(n), took.Round(time.Millisecond))
	case !known && !req.AllowUnmeasured:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_START_LATENCY_UNKNOWN, n, "%s: how long it takes is unknown, and allow_unmeasured is not set", asked(n))
	}
}

func (f *finding) volumes(req Requirements, c Candidate) {
	for _, n := range req.Volumes {
		if supported(c, n.Capability) && !slices.Contains(c.Volumes, n.Value) {
			f.add(brokerv1.PlacementRule_PLACEMENT_RULE_VOLUME, n, "%s: it has no such volume", asked(n))
		}
	}
}

// live is about now. Only this goes away by itself.
func (f *finding) live(c Candidate, now time.Time) {
	switch {
	case c.NotReady != "":
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_NOT_READY, Need{}, "it cannot be asked now: %s", c.NotReady)
	case c.Described == nil:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_NOT_READY, Need{}, "it cannot be asked now: it has not started yet")
	}
	m := c.Measured
	if now.Before(m.CoolUntil) {
		o := f.add(brokerv1.PlacementRule_PLACEMENT_RULE_COOLING_DOWN, Need{}, "it asked for fewer calls, and is left alone for %s more", rest(now, m.CoolUntil))
		o.Until = timestamppb.New(m.CoolUntil)
	}
	switch circuit := m.Circuit(now); {
	case circuit == Open:
		o := f.add(brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_OPEN, Need{}, "creations fail there (%d in a row), and it is left alone for %s more", m.Streak, rest(now, m.OpenUntil))
		o.Until = timestamppb.New(m.OpenUntil)
	case circuit == HalfOpen && c.Probing:
		f.add(brokerv1.PlacementRule_PLACEMENT_RULE_CIRCUIT_PROBING, Need{}, "creations failed there (%d in a row), and another one is finding out whether it works again", m.Streak)
	}
}

// rest is the time to wait, in whole seconds unless it is less than one.
func rest(now, until time.Time) time.Duration {
	d := until.Sub(now)
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}
