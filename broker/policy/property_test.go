package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/policy"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// truth is an expression and what it is, told without CEL; undecided means that it
// must fail.
type truth struct {
	text string
	is   func(c placement.Candidate) (holds, undecided bool)
}

func drawTruth(t *rapid.T) truth {
	switch rapid.IntRange(0, 5).Draw(t, "expression") {
	case 0:
		name := rapid.SampledFrom([]string{"p0", "p1", "p2"}).Draw(t, "name")
		return truth{fmt.Sprintf("provider.name == %q", name), func(c placement.Candidate) (bool, bool) { return c.Name == name, false }}
	case 1:
		return truth{`provider.labels.tier == "paid"`, func(c placement.Candidate) (bool, bool) {
			tier, ok := c.Labels["tier"]
			return tier == "paid", !ok
		}}
	case 2:
		return truth{`has(provider.labels.tier) && provider.labels.tier != "paid"`, func(c placement.Candidate) (bool, bool) {
			tier, ok := c.Labels["tier"]
			return ok && tier != "paid", false
		}}
	case 3:
		n := rapid.IntRange(0, 20).Draw(t, "number")
		return truth{fmt.Sprintf("provider.sandboxes >= %d", n), func(c placement.Candidate) (bool, bool) { return c.Live >= n, false }}
	case 4:
		return truth{`provider.latency < duration("1s")`, func(c placement.Candidate) (bool, bool) {
			took, known := c.Measured.Measured(start)
			return took < time.Second, !known
		}}
	default:
		return truth{"true", func(placement.Candidate) (bool, bool) { return true, false }}
	}
}

// denier is a rule, and whether it denies a candidate.
type denier struct {
	rule   policy.Rule
	denies func(placement.Candidate) bool
}

func drawRule(t *rapid.T, i int) denier {
	r := policy.Rule{Name: fmt.Sprintf("r%d", i)}
	x := drawTruth(t)
	d := denier{denies: func(c placement.Candidate) bool { _, undecided := x.is(c); return undecided }}
	switch rapid.IntRange(0, 5).Draw(t, "effect") {
	case 0, 1:
		r.Deny = x.text
		d.denies = func(c placement.Candidate) bool { holds, undecided := x.is(c); return holds || undecided }
	case 2:
		r.Require = x.text
		d.denies = func(c placement.Candidate) bool { holds, undecided := x.is(c); return !holds || undecided }
	case 3:
		r.Prefer, r.Weight = x.text, new(rapid.IntRange(1, 10_000).Draw(t, "preference"))
	case 4:
		r.Pin = rapid.SampledFrom([]string{"p0", "p1"}).Draw(t, "pin")
		d.denies = func(c placement.Candidate) bool { return c.Name != r.Pin }
	default:
		r.Spread = new(rapid.IntRange(1, 100).Draw(t, "spread"))
		d.denies = func(placement.Candidate) bool { return false }
	}
	if rapid.IntRange(0, 3).Draw(t, "other request") == 0 {
		r.When = "tenant == 'nobody'"
		d.denies = func(placement.Candidate) bool { return false }
	}
	d.rule = r
	return d
}

func drawMarket(t *rapid.T) []placement.Candidate {
	var out []placement.Candidate
	for i := range rapid.IntRange(1, 5).Draw(t, "candidates") {
		c := placement.Candidate{
			Name: fmt.Sprintf("p%d", i), Described: described("image.oci"), Live: rapid.IntRange(0, 30).Draw(t, "live"),
			Policy: placement.Policy{Weight: rapid.SampledFrom([]int{1, 100, 10_000}).Draw(t, "weight")},
		}
		if tier := rapid.SampledFrom([]string{"", "paid", "free"}).Draw(t, "tier"); tier != "" {
			c.Labels = map[string]string{"tier": tier}
		}
		if ms := rapid.SampledFrom([]int{0, 5, 500, 5000}).Draw(t, "latency"); ms > 0 {
			c.Measured = took(time.Duration(ms) * time.Millisecond)
		}
		out = append(out, c)
	}
	return out
}

// TestADeniedCandidateIsNeverChosen, whatever the weights, the other rules and
// whether the request names it; and one that no rule denies stays a candidate.
func TestADeniedCandidateIsNeverChosen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		candidates := drawMarket(t)
		var rules []policy.Rule
		var deniers []denier
		for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
			d := drawRule(t, i)
			rules, deniers = append(rules, d.rule), append(deniers, d)
		}
		set, problems := policy.Compile(rules)
		if len(problems) > 0 {
			t.Fatalf("%v", problems)
		}
		needs := placement.Requirements{Provider: rapid.SampledFrom([]string{"", "", "p0", "p1"}).Draw(t, "named")}
		q := policy.Query{Request: &brokerv1.CreateSandboxRequest{Provider: needs.Provider}, Tenant: "t"}
		p := placement.Place(set.Bind(needs, q), candidates, start)
		for _, c := range candidates {
			denied := slices.ContainsFunc(deniers, func(d denier) bool { return d.denies(c) })
			i := slices.IndexFunc(p.GetCandidates(), func(pc *brokerv1.PlacementCandidate) bool { return pc.GetProvider() == c.Name })
			pc := p.GetCandidates()[i]
			switch {
			case denied && (p.GetProvider() == c.Name || pc.GetScore() != nil || len(pc.GetObstacles()) == 0):
				t.Fatalf("%s is denied by %+v and placed as %v", c.Name, rules, p)
			case !denied && pc.GetScore() == nil && (needs.Provider == "" || needs.Provider == c.Name):
				t.Fatalf("%s is not denied by %+v and ruled out by %v", c.Name, rules, pc)
			}
			for _, o := range pc.GetObstacles() {
				if o.GetPolicyRule() == "" && needs.Provider == "" {
					t.Fatalf("%s is ruled out by no rule: %v", c.Name, o)
				}
			}
		}
		if again := placement.Place(set.Bind(needs, q), candidates, start); !proto.Equal(p, again) {
			t.Fatalf("the same question again is answered with %v, not %v", again, p)
		}
	})
}
