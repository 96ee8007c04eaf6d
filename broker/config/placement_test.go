package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/policy"
)

func TestRules(t *testing.T) {
	c, err := config.Parse("c.yaml", []byte(`
providers: [{name: local}, {name: cloud}]
placement:
  rules:
    - name: eu-data
      tenants: [bank, shop]
      when: has(request.labels.data) && request.labels.data == "customer"
      require: provider.region == "eu"
      reason: customer data stays in the EU
    - {name: warm-first, prefer: provider.warm, weight: 300}
    - {name: builds, when: caller.role == "operator", pin: cloud}
    - {name: even, spread: 5}
    - name: long
      deny: |
        provider.failure_rate > 0.5 ||
        provider.circuit != "closed"
`))
	if err != nil {
		t.Fatal(err)
	}
	weight, spread := 300, 5
	want := []policy.Rule{
		{
			Name: "eu-data", Tenants: []string{"bank", "shop"}, When: `has(request.labels.data) && request.labels.data == "customer"`,
			Require: `provider.region == "eu"`, Reason: "customer data stays in the EU",
		},
		{Name: "warm-first", Prefer: "provider.warm", Weight: &weight},
		{Name: "builds", When: `caller.role == "operator"`, Pin: "cloud"},
		{Name: "even", Spread: &spread},
		{Name: "long", Deny: "provider.failure_rate > 0.5 ||\nprovider.circuit != \"closed\"\n"},
	}
	if diff := cmp.Diff(want, c.Placement.Rules); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := c.Tenants(); !slices.Contains(got, "bank") || !slices.Contains(got, "shop") {
		t.Errorf("tenants are %q", got)
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	const rules = "providers: [{name: local}, {name: cloud}]\nplacement:\n  rules:\n"
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"a typo in a field", "  - name: a\n    deny: provider.nmae == \"x\"\n", []string{
			`c.yaml:5: placement.rules[0].deny is "provider.nmae == \"x\"": at column 9, undefined field 'nmae': ` +
				`want one of capabilities, circuit, failure_rate, labels, latency, name, region, sandboxes, warm`,
		}},
		{"in the second line of a block", "  - name: a\n    require: |\n      tenant == 'a' ||\n      caller.nme == 'b'\n", []string{
			`c.yaml:7: placement.rules[0].require is "tenant == 'a' || caller.nme == 'b'": at column 7, undefined field 'nme': ` +
				`want one of id, issuer, kind, name, role, tenant`,
		}},
		{"a type", "  - name: a\n    when: request.cpu\n    pin: local\n", []string{
			`c.yaml:5: placement.rules[0].when is "request.cpu": want true or false, not a value of type double`,
		}},
		{"a key", "  - {name: a, prefers: provider.warm}\n", []string{
			`c.yaml:4: placement.rules[0].prefers is not a setting: want one of deny, name, pin, prefer, reason, require, spread, tenants, weight, when`,
		}},
		{"no effect and no name", "  - when: tenant == 'a'\n", []string{
			`c.yaml:4: placement.rules[0].name is missing: want what explanations are to call the rule`,
			`c.yaml:4: placement.rules[0] has none: want exactly one of require, deny, prefer, pin and spread`,
		}},
		{"a provider", "  - {name: a, pin: clowd}\n", []string{`c.yaml:4: placement.rules[0].pin is "clowd": want a provider of the configuration: local, cloud`}},
		{"a tenant", "  - name: a\n    pin: local\n    tenants:\n    - ok\n    - Not OK\n", []string{
			`c.yaml:8: placement.rules[0].tenants[1] is "Not OK": want ` + authn.TenantNames,
		}},
		{"twice", "  - {name: a, pin: local}\n  - {name: a, pin: local}\n", []string{`c.yaml:5: placement.rules[1].name is "a": want each name once`}},
		{"numbers", "  - {name: a, spread: 0}\n  - {name: b, prefer: 'true', weight: 0}\n  - {name: c, spread: few}\n", []string{
			`c.yaml:4: placement.rules[0].spread is "0": want 1 to 1000000 sandboxes`,
			`c.yaml:5: placement.rules[1].weight is "0": want 1 to 10000; to rule providers out there is deny`,
			`c.yaml:6: placement.rules[2].spread is "few": want a whole number`,
		}},
		{"syntax", "  - {name: a, deny: 'provider.name =='}\n", []string{`c.yaml:4: placement.rules[0].deny is "provider.name ==": at column 17, `}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Parse("c.yaml", []byte(rules+tc.text))
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.Split(err.Error(), "\n")
			if tc.name == "syntax" && len(got) == 1 { // the rest is the parser's
				got[0] = got[0][:min(len(got[0]), len(tc.want[0]))]
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
