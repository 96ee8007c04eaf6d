package config

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sandbar-dev/sandbar/broker/policy"
)

// Placement says how providers are chosen, beyond what is said of each.
type Placement struct {
	// Rules rule providers out and move their scores. Tenants that one names are made
	// if there are none.
	Rules []policy.Rule `yaml:"rules"`
}

func (d *decoder) checkRules(c *Config) {
	_, problems := policy.Compile(c.Placement.Rules)
	problems = slices.DeleteFunc(problems, func(p policy.Problem) bool {
		of, field := ruleField(p)
		return p.Missing && !d.sound(of) || !d.sound(field) // it may be what could not be read
	})
	for _, p := range problems {
		of, field := ruleField(p)
		line, ok := d.lines[field]
		switch {
		case !ok:
			line = d.lines[of]
		case p.Line > 0:
			line = d.textLine(field, p.Line)
		}
		d.failAt(line, field, "%s", p.Sentence())
	}
	var providers []string
	for _, p := range c.Providers {
		providers = append(providers, p.Name)
	}
	if len(providers) == 0 {
		providers = []string{Default().DefaultProvider()}
	}
	for i, r := range c.Placement.Rules {
		of, _ := ruleField(policy.Problem{Rule: i})
		if r.Pin != "" && !slices.Contains(providers, r.Pin) && d.sound("providers") {
			d.reject(of+".pin", r.Pin, "a provider of the configuration: "+strings.Join(providers, ", "))
		}
		for j, t := range r.Tenants {
			name := of + ".tenants[" + strconv.Itoa(j) + "]"
			d.checkTenant(name, t)
			if t == "" && d.sound(name) {
				d.reject(name, t, "the name of a tenant; without tenants the rule is for all")
			}
		}
	}
}

// ruleField returns the paths of a rule and of the field of it that a problem is
// about, which may be all of it.
func ruleField(p policy.Problem) (of, field string) {
	of = "placement.rules[" + strconv.Itoa(p.Rule) + "]"
	if p.Field == "" {
		return of, of
	}
	return of, of + "." + p.Field
}

// textLine returns where a line of a text stands in the file; line counts from 1.
func (d *decoder) textLine(field string, line int) int {
	at := d.lines[field] + line - 1
	if d.blocks[field] {
		at++ // the text begins below the key
	}
	return at
}

// isBlock reports whether a text is written below its key.
func isBlock(n *yaml.Node) bool { return n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }
