package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Rule is one rule as it is written. The yaml tags are its keys in a
// configuration file. It has exactly one of Require, Deny, Prefer, Pin and Spread.
type Rule struct {
	// Name is how explanations call it.
	Name string `yaml:"name"`
	// Tenants it is for; empty: all.
	Tenants []string `yaml:"tenants"`
	// When is an expression over request, tenant and caller that says which requests
	// it is about; empty: all.
	When string `yaml:"when"`
	// Require, Deny and Prefer are expressions over those and provider. A candidate
	// is ruled out where Require is false, and where Deny is true; where Prefer is
	// true, Weight is a factor of its score.
	Require string `yaml:"require"`
	Deny    string `yaml:"deny"`
	Prefer  string `yaml:"prefer"`
	// Weight goes with Prefer: 200, which is the default, makes a candidate twice as
	// attractive, 50 half.
	Weight *int `yaml:"weight"`
	// Pin is the name of the one provider that will do.
	Pin string `yaml:"pin"`
	// Spread is how many sandboxes make a provider half as attractive. The lowest of
	// several rules holds.
	Spread *int `yaml:"spread"`
	// Reason is told to people instead of the expression.
	Reason string `yaml:"reason"`
}

// Limits of a rule. They bound what deciding a request can cost.
const (
	// maxRules is far more than anybody can keep in mind.
	maxRules = 100
	maxText  = 2000
	// maxReason keeps the tables of an explanation readable.
	maxReason = 200
	// defaultWeight is that of Prefer; weights are in hundredths.
	defaultWeight, unitWeight = 200, 100
	maxWeight                 = 10_000
	maxSpread                 = 1_000_000
)

// Problem is what is wrong with a rule.
type Problem struct {
	// Rule is its index.
	Rule int
	// Field is a key of the rule; empty: all of it.
	Field string
	// Value is what the field holds.
	Value string
	// Missing is true if nothing wrong is there, but something is not there.
	Missing bool
	// Line and Column, both from 1, are where an expression is wrong; 0: it is no
	// expression.
	Line, Column int
	// Want says what is wrong, or what would be right.
	Want string
}

// Error says all of that in one line.
func (p Problem) Error() string {
	field := "rules[" + strconv.Itoa(p.Rule) + "]"
	if p.Field != "" {
		field += "." + p.Field
	}
	return field + " " + p.Sentence()
}

// Sentence says it without the field.
func (p Problem) Sentence() string {
	switch {
	case p.Missing:
		return p.Want
	case p.Column > 0:
		return fmt.Sprintf("is %q: at column %d, %s", p.Value, p.Column, p.Want)
	default:
		return fmt.Sprintf("is %q: %s", p.Value, p.Want)
	}
}

var namePattern = pattern.Lazy(`^[a-z0-9][a-z0-9-]{0,62}$`)

// problems returns what is wrong with a rule but for its expressions.
func (r Rule) problems() []Problem {
	var out []Problem
	bad := func(field, value, want string) {
		out = append(out, Problem{Field: field, Value: value, Want: want})
	}
	switch {
	case r.Name == "":
		out = append(out, Problem{Field: "name", Missing: true, Want: "is missing: want what explanations are to call the rule"})
	case !namePattern().MatchString(r.Name):
		bad("name", r.Name, "want up to 63 lower-case letters, digits and dashes, the first not a dash")
	}
	if effects := r.effects(); len(effects) != 1 {
		has := "none"
		if len(effects) > 1 {
			has = strings.Join(effects, " and ")
		}
		out = append(out, Problem{Missing: true, Want: "has " + has + ": want exactly one of require, deny, prefer, pin and spread"})
	}
	if w := r.Weight; w != nil {
		switch {
		case r.Prefer == "":
			out = append(out, Problem{Field: "weight", Missing: true, Want: "is set without prefer: want both"})
		case *w < 1 || *w > maxWeight:
			bad("weight", strconv.Itoa(*w), fmt.Sprintf("want 1 to %d; to rule providers out there is deny", maxWeight))
		}
	}
	if n := r.Spread; n != nil && (*n < 1 || *n > maxSpread) {
		bad("spread", strconv.Itoa(*n), fmt.Sprintf("want 1 to %d sandboxes", maxSpread))
	}
	if len(r.Reason) > maxReason || strings.ContainsAny(r.Reason, "\n\r") {
		bad("reason", shortened(r.Reason), fmt.Sprintf("want one line of at most %d bytes", maxReason))
	}
	return out
}

// effects returns the names of those that are set.
func (r Rule) effects() []string {
	var out []string
	for _, e := range []struct {
		name string
		set  bool
	}{
		{"require", r.Require != ""}, {"deny", r.Deny != ""}, {"prefer", r.Prefer != ""}, {"pin", r.Pin != ""}, {"spread", r.Spread != nil},
	} {
		if e.set {
			out = append(out, e.name)
		}
	}
	return out
}

// shortened is an expression as a sentence quotes it: on one line, and not too
// long.
func shortened(text string) string {
	const most = 120
	one := strings.Join(strings.Fields(text), " ")
	if runes := []rune(one); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return one
}
