package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/policy"
)

func TestProblems(t *testing.T) {
	const (
		effects  = "want exactly one of require, deny, prefer, pin and spread"
		provider = "want one of capabilities, circuit, failure_rate, labels, latency, name, region, sandboxes, warm"
	)
	for _, tc := range []struct {
		name string
		rule policy.Rule
		want []string
	}{
		{"empty", policy.Rule{}, []string{
			"rules[0].name is missing: want what explanations are to call the rule", "rules[0] has none: " + effects,
		}},
		{"name", policy.Rule{Name: "No Spot", Deny: "false"}, []string{
			`rules[0].name is "No Spot": want up to 63 lower-case letters, digits and dashes, the first not a dash`,
		}},
		{"two effects", policy.Rule{Name: "r", Deny: "false", Pin: "a"}, []string{"rules[0] has deny and pin: " + effects}},
		{"weight alone", policy.Rule{Name: "r", Deny: "false", Weight: new(5)}, []string{"rules[0].weight is set without prefer: want both"}},
		{"weight", policy.Rule{Name: "r", Prefer: "true", Weight: new(0)}, []string{
			`rules[0].weight is "0": want 1 to 10000; to rule providers out there is deny`,
		}},
		{"spread", policy.Rule{Name: "r", Spread: new(-1)}, []string{`rules[0].spread is "-1": want 1 to 1000000 sandboxes`}},
		{"reason", policy.Rule{Name: "r", Deny: "false", Reason: "one\ntwo"}, []string{
			`rules[0].reason is "one two": want one line of at most 200 bytes`,
		}},
		{"a field that is not there", policy.Rule{Name: "r", Deny: `provider.nmae == "x"`}, []string{
			`rules[0].deny is "provider.nmae == \"x\"": at column 9, undefined field 'nmae': ` + provider,
		}},
		{"in the third line", policy.Rule{Name: "r", Require: "tenant == 'a' &&\n  caller.role == 'user' &&\n  caller.nme == 'b'"}, []string{
			`rules[0].require is "tenant == 'a' && caller.role == 'user' && caller.nme == 'b'": at column 9, ` +
				`undefined field 'nme': want one of id, issuer, kind, name, role, tenant`,
		}},
		{"a variable that is not there", policy.Rule{Name: "r", Deny: `provder.name == "x"`}, []string{
			`rules[0].deny is "provder.name == \"x\"": at column 1, undeclared reference to 'provder' (did you mean 'provider'?): want one of caller, provider, request, tenant, or a function of CEL`,
		}},
		{"when knows no provider", policy.Rule{Name: "r", When: `provider.name == "x"`, Pin: "a"}, []string{
			`rules[0].when is "provider.name == \"x\"": at column 1, undeclared reference to 'provider': want one of caller, request, tenant, or a function of CEL`,
		}},
		{"types", policy.Rule{Name: "r", Deny: `provider.sandboxes > "3"`}, []string{
			`rules[0].deny is "provider.sandboxes > \"3\"": at column 20, found no matching overload for '_>_' applied to '(int, string)'`,
		}},
		{"not true or false", policy.Rule{Name: "r", Deny: `provider.region`}, []string{
			`rules[0].deny is "provider.region": want true or false, not a value of type string`,
		}},
		{"too long", policy.Rule{Name: "r", Deny: "true" + strings.Repeat(" || true", 250)}, []string{
			`rules[0].deny is "true || true || true || true || true || true || true || true || true || true || true || true || true || true || true ||…": want at most 2000 bytes`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := policy.Compile([]policy.Rule{tc.rule})
			var got []string
			for _, p := range problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, text := range []string{"provider.name ==", "(", "'open", "provider..name"} {
		_, problems := policy.Compile([]policy.Rule{{Name: "r", Deny: text}})
		if len(problems) != 1 || problems[0].Line != 1 || problems[0].Column == 0 || !strings.Contains(problems[0].Want, "yntax") {
			t.Errorf("%q: %+v", text, problems)
		}
	}
}

func TestProblemsOfSeveral(t *testing.T) {
	_, problems := policy.Compile([]policy.Rule{{Name: "a", Deny: "false"}, {Name: "b", Deny: "1"}, {Name: "a", Pin: "x"}})
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	want := []string{`rules[1].deny is "1": want true or false, not a value of type int`, `rules[2].name is "a": want each name once`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, problems = policy.Compile(make([]policy.Rule, 101))
	if len(problems) != 1 || problems[0].Error() != "rules[100] is one too many: want at most 100 rules" {
		t.Errorf("101 rules: %v", problems)
	}
}
