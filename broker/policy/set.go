package policy

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/broker/placement"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Set is rules that can judge. Compile makes one; nil has none.
type Set struct{ rules []*rule }

// rule is a Rule that is compiled.
type rule struct {
	Rule
	// when is nil if the rule is about all requests of its tenants; holds is nil for
	// Pin and Spread, which are about all candidates.
	when, holds *expression
}

// Compile checks and compiles rules. The set is of use only if there are no
// problems.
func Compile(rules []Rule) (*Set, []Problem) {
	if len(rules) == 0 {
		return nil, nil
	}
	if len(rules) > maxRules {
		return nil, []Problem{{Rule: maxRules, Missing: true, Want: fmt.Sprintf("is one too many: want at most %d rules", maxRules)}}
	}
	set, seen := &Set{}, make(map[string]bool)
	var problems []Problem
	for i, r := range rules {
		found := r.problems()
		if seen[r.Name] && r.Name != "" {
			found = append(found, Problem{Field: "name", Value: r.Name, Want: "want each name once"})
		}
		seen[r.Name] = true
		c := &rule{Rule: r}
		for _, e := range []struct {
			field, text string
			about       scope
			into        **expression
		}{
			{"when", r.When, requests, &c.when},
			{"require", r.Require, candidates, &c.holds},
			{"deny", r.Deny, candidates, &c.holds},
			{"prefer", r.Prefer, candidates, &c.holds},
		} {
			if e.text == "" {
				continue
			}
			compiled, problem := compile(e.text, e.about)
			if problem != nil {
				problem.Field = e.field
				found = append(found, *problem)
			}
			*e.into = compiled
		}
		for _, p := range found {
			p.Rule = i
			problems = append(problems, p)
		}
		set.rules = append(set.rules, c)
	}
	return set, problems
}

// Caller is who makes a request, as far as rules may ask.
type Caller struct {
	// Kind is local, api_key or oidc; Role is admin, operator, user or auditor.
	Kind, Role string
	// ID, Name and Issuer are those of the credential, Tenant is the caller's own.
	ID, Name, Issuer, Tenant string
}

// Query is a request that is to be placed.
type Query struct {
	Request *brokerv1.CreateSandboxRequest
	// Tenant is the one the sandbox is for.
	Tenant string
	Caller Caller
	// Lifetime is how long the sandbox may live; zero: no end.
	Lifetime time.Duration
}

// Bind adds to the requirements the rules that are about a request. If they pin
// it to one provider and the request names none, that one is named.
func (s *Set) Bind(needs placement.Requirements, q Query) placement.Requirements {
	if s == nil {
		return needs
	}
	b := &bound{vars: newVariables(q, needs)}
	for _, r := range s.rules {
		if len(r.Tenants) > 0 && !slices.Contains(r.Tenants, q.Tenant) {
			continue
		}
		applies := true
		if r.when != nil {
			var err error
			if applies, err = r.when.holds(b.vars); err != nil {
				b.rules = append(b.rules, bindingRule{rule: r, undecided: undecided(r, "when", err)})
				continue
			}
		}
		if applies {
			b.rules = append(b.rules, bindingRule{rule: r})
		}
	}
	if len(b.rules) == 0 {
		return needs
	}
	needs.Rules = b
	if rule, provider := b.pinned(); needs.Provider == "" && provider != "" {
		needs.Provider, needs.PinnedBy = provider, rule
	}
	return needs
}

// bound is rules that are about one request.
type bound struct {
	vars  variables
	rules []bindingRule
}

type bindingRule struct {
	*rule
	// undecided says why it is not known whether the rule is about the request; empty:
	// it is.
	undecided string
}

// pinned returns the provider that all pins name, and the first of them.
func (b *bound) pinned() (rule, provider string) {
	for _, r := range b.rules {
		switch {
		case r.Pin == "" || r.undecided != "":
		case provider == "":
			rule, provider = r.Name, r.Pin
		case provider != r.Pin:
			return "", "" // no provider will do
		}
	}
	return rule, provider
}

// Judge implements placement.Rules.
func (b *bound) Judge(c placement.Candidate, now time.Time) []placement.Ruling {
	vars := b.vars.of(c, now)
	var out []placement.Ruling
	for _, r := range b.rules {
		ruling := placement.Ruling{Rule: r.Name}
		if r.undecided != "" {
			ruling.Undecided, ruling.Message = true, r.undecided
		} else if !r.judge(c.Name, vars, &ruling) {
			continue
		}
		out = append(out, ruling)
	}
	return out
}

// judge fills in a ruling. It reports whether there is one.
func (r *rule) judge(provider string, vars variables, out *placement.Ruling) bool {
	switch {
	case r.Pin != "":
		out.Denied, out.Message = r.Pin != provider, placement.Pinned(r.Name, r.Pin)
		return out.Denied
	case r.Spread != nil:
		out.HalfSpread, out.Message = *r.Spread, r.because("halves its score at "+strconv.Itoa(*r.Spread)+" sandboxes")
		return true
	}
	effect := r.effects()[0]
	holds, err := r.holds.holds(vars)
	switch {
	case err != nil:
		out.Undecided, out.Message = true, undecided(r, effect, err)
		return true
	case r.Prefer != "":
		out.Preference = float64(r.weight()) / unitWeight
		out.Message = r.because("makes it " + strconv.FormatFloat(out.Preference, 'g', -1, 64) + " times as attractive")
		return holds
	case r.Deny != "":
		out.Denied, out.Message = holds, r.denies("denies it: "+shortened(r.Deny))
	default:
		out.Denied, out.Message = !holds, r.denies("requires "+shortened(r.Require))
	}
	return out.Denied
}

func (r *rule) weight() int {
	if r.Weight != nil {
		return *r.Weight
	}
	return defaultWeight
}

// denies is the message of a rule that rules out: the reason that was written for
// people says it all.
func (r *rule) denies(otherwise string) string {
	if r.Reason != "" {
		return fmt.Sprintf("rule %q: %s", r.Name, r.Reason)
	}
	return fmt.Sprintf("rule %q %s", r.Name, otherwise)
}

func (r *rule) because(does string) string {
	text := fmt.Sprintf("rule %q %s", r.Name, does)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

func undecided(r *rule, field string, err error) string {
	return fmt.Sprintf("rule %q cannot be decided, which denies: %s: %v", r.Name, field, err)
}
