package placement

import (
	"fmt"
	"time"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Rules are the rules of the configuration that are about one request.
type Rules interface {
	// Judge returns what they say of a candidate, in their order. It must be
	// deterministic, and what cannot be decided it must return as Undecided.
	Judge(c Candidate, now time.Time) []Ruling
}

// Ruling is what one rule says of one candidate.
type Ruling struct {
	// Rule is its name.
	Rule string
	// Denied rules the candidate out; so does Undecided, which means that the rule
	// could not be evaluated.
	Denied, Undecided bool
	// Preference is a factor of the score; 0: none.
	Preference float64
	// HalfSpread is the number of sandboxes at which the spread falls to a half; 0:
	// the rule is about something else.
	HalfSpread int
	// Message is one sentence for people that names the rule.
	Message string
}

// Pinned is the message of a rule that leaves one provider.
func Pinned(rule, provider string) string {
	return fmt.Sprintf("rule %q pins it to %q", rule, provider)
}

// judge asks the rules about a candidate that they matter for: neither about one
// that is not the named one, nor about one that never said what it can do, which
// is ruled out by that.
func judge(req Requirements, c Candidate, now time.Time) []Ruling {
	if req.Rules == nil || req.Provider != "" && req.Provider != c.Name || req.Provider == "" && c.Described == nil {
		return nil
	}
	return req.Rules.Judge(c, now)
}

// rules adds what rules deny.
func (f *finding) rules(rulings []Ruling) {
	for _, r := range rulings {
		rule := brokerv1.PlacementRule_PLACEMENT_RULE_POLICY
		switch {
		case r.Undecided:
			rule = brokerv1.PlacementRule_PLACEMENT_RULE_POLICY_UNDECIDED
		case !r.Denied:
			continue
		}
		f.add(rule, Need{}, "%s", r.Message).PolicyRule = r.Rule
	}
}

// moved returns what rules make of a score: the product of what they prefer, and
// the lowest of the numbers that they spread by.
func moved(rulings []Ruling) (preference float64, half int) {
	preference, half = 1, halfSpread
	spread := false
	for _, r := range rulings {
		if r.Preference > 0 {
			preference *= r.Preference
		}
		if r.HalfSpread > 0 && (!spread || r.HalfSpread < half) {
			spread, half = true, r.HalfSpread
		}
	}
	return preference, half
}

func adjustments(rulings []Ruling) []*brokerv1.PlacementAdjustment {
	var out []*brokerv1.PlacementAdjustment
	for _, r := range rulings {
		if r.Preference > 0 || r.HalfSpread > 0 {
			out = append(out, &brokerv1.PlacementAdjustment{
				PolicyRule: r.Rule, Preference: r.Preference, HalfSpread: int64(r.HalfSpread), Message: r.Message,
			})
		}
	}
	return out
}
