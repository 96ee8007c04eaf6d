package broker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/policy"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ruled is a market with rules.
func ruled(t *testing.T, rules []policy.Rule, names ...string) *market {
	t.Helper()
	m := newMarket(t, names...)
	m.Close(t.Context())
	set, problems := policy.Compile(rules)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	m.set = set
	m.start()
	return m
}

// denied is a creation that rules must refuse before anybody is asked.
func (m *market) denied(req *brokerv1.CreateSandboxRequest, message, rule string) *fault.Error {
	m.t.Helper()
	_, err := m.CreateSandbox(m.t.Context(), req)
	f := want(m.t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED)
	if diff := cmp.Diff(message, f.Message); diff != "" {
		m.t.Errorf("-want +got:\n%s", diff)
	}
	if f.Metadata["rule"] != rule || f.Effect != providerv1.Effect_EFFECT_NONE {
		m.t.Errorf("fault is %+v, want the rule %q and no effect", f, rule)
	}
	for name, v := range m.vendors {
		if n := v.Calls("CreateSandbox"); n != 0 {
			m.t.Errorf("%s was asked %d times", name, n)
		}
	}
	return f
}

func TestRulesRefuse(t *testing.T) {
	m := ruled(t, []policy.Rule{
		{Name: "no-builds", When: `has(request.labels.kind) && request.labels.kind == "build"`, Require: `"compute.gpu" in provider.capabilities`},
		{Name: "owned", When: `has(request.labels.kind) && request.labels.kind == "owned"`, Deny: `provider.labels.owner != request.labels.owner`},
		{Name: "staged", Tenants: []string{"default"}, When: `has(request.labels.kind) && request.labels.stage == "x"`, Pin: "b"},
	}, "a", "b")
	m.denied(&brokerv1.CreateSandboxRequest{Labels: map[string]string{"kind": "build", "stage": "y"}},
		`no provider may make this sandbox: a: rule "no-builds" requires "compute.gpu" in provider.capabilities; `+
			`b: rule "no-builds" requires "compute.gpu" in provider.capabilities`, "no-builds")
	// To name a provider is no way around a rule.
	m.denied(&brokerv1.CreateSandboxRequest{Provider: "b", Labels: map[string]string{"kind": "build", "stage": "y"}},
		`provider "b" may not make this sandbox: rule "no-builds" requires "compute.gpu" in provider.capabilities`, "no-builds")
	m.denied(&brokerv1.CreateSandboxRequest{Labels: map[string]string{"kind": "owned", "owner": "me", "stage": "y"}},
		`no provider may make this sandbox: a: rule "owned" cannot be decided, which denies: deny: no such key: owner; `+
			`b: rule "owned" cannot be decided, which denies: deny: no such key: owner`, "owned")
	m.denied(&brokerv1.CreateSandboxRequest{Labels: map[string]string{"kind": "other"}},
		`no provider may make this sandbox: a: rule "staged" cannot be decided, which denies: when: no such key: stage; `+
			`b: rule "staged" cannot be decided, which denies: when: no such key: stage`, "staged")
	p, err := m.PlanSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Labels: map[string]string{"kind": "other"}})
	check(t, err)
	if p.GetProvider() != "" || rulesOf(p, "a") != "POLICY_UNDECIDED" || p.GetCandidates()[0].GetObstacles()[0].GetPolicyRule() != "staged" {
		t.Errorf("planned %v", p)
	}
	m.at("a") // no rule is about it
}

func TestRulesPin(t *testing.T) {
	m := ruled(t, []policy.Rule{{Name: "here", When: `!has(request.labels.free)`, Pin: "b"}}, "a", "b")
	sb := m.at("b")
	p, err := m.ExplainSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	if p.GetNote() != `rule "here" pins it` || rulesOf(p, "a") != "POLICY" {
		t.Errorf("explained as %v", p)
	}
	if sb := m.create(&brokerv1.CreateSandboxRequest{Labels: map[string]string{"free": "yes"}}); sb.GetProvider() != "a" {
		t.Errorf("what is not pinned is at %q", sb.GetProvider())
	}
	_, err = m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Provider: "a"})
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED); f.Message != `provider "a" may not make this sandbox: rule "here" pins it to "b"` {
		t.Errorf("refused with %s", f.Message)
	}
	// A pinned one is asked whatever was measured, as one that is named.
	m.fails("b", false, noRoom)
	for range 4 {
		_, err = m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{})
		want(t, err, providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED)
	}
	// A caller whose scope leaves it out is not put elsewhere.
	kept := local
	kept.Scope = &brokerv1.Scope{Providers: []string{"a"}}
	_, err = m.CreateSandbox(authz.With(t.Context(), kept), &brokerv1.CreateSandboxRequest{})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED)
	if f.Metadata["rule"] != "here" || f.Message != `rule "here" pins it to "b", which is not in the scope of `+kept.String() {
		t.Errorf("refused with %+v", f)
	}
}

// TestFailOverKeepsToRules: what a rule denies is not asked after a refusal either.
func TestFailOverKeepsToRules(t *testing.T) {
	m := ruled(t, []policy.Rule{{Name: "not-b", Deny: `provider.name == "b"`}, {Name: "c-first", Prefer: `provider.name == "c"`, Weight: new(10_000)}}, "a", "b", "c")
	m.fails("c", false, noRoom)
	m.at("a")
	m.fails("a", false, noRoom)
	_, err := m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED)
	if n := m.vendors["b"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("b was asked %d times", n)
	}
}

// TestWhoAsksMatters: tenant, role and kind of the caller are what rules see.
func TestWhoAsksMatters(t *testing.T) {
	m := ruled(t, []policy.Rule{
		{Name: "users", When: `caller.role == "user" && caller.kind == "api_key" && caller.id == "key_x" && caller.tenant == tenant`, Pin: "b"},
	}, "a", "b")
	user := authz.Principal{
		Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY, ID: "key_x", Tenant: authz.DefaultTenant, Acting: authz.DefaultTenant, Role: brokerv1.Role_ROLE_USER,
	}
	p, err := m.PlanSandbox(authz.With(t.Context(), user), &brokerv1.CreateSandboxRequest{})
	check(t, err)
	if p.GetProvider() != "b" {
		t.Errorf("planned %v", p)
	}
	m.at("a") // by the local user, who is an admin
}

func TestStartLatencyOfARequest(t *testing.T) {
	m := newMarket(t, "a", "b")
	req := &brokerv1.CreateSandboxRequest{MaxStartLatency: durationpb.New(10 * time.Second)}
	_, err := m.CreateSandbox(t.Context(), req)
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	const say = `no provider can make this sandbox: a: max_start_latency is "10s": how long it takes is unknown, and allow_unmeasured is not set; ` +
		`b: max_start_latency is "10s": how long it takes is unknown, and allow_unmeasured is not set`
	if diff := cmp.Diff(say, f.Message); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	m.at("a")
	if sb := m.create(req); sb.GetProvider() != "a" {
		t.Errorf("it is at %q, and only a was measured", sb.GetProvider())
	}
	for _, bad := range []*brokerv1.CreateSandboxRequest{
		{AllowUnmeasured: true}, {MaxStartLatency: durationpb.New(-time.Second)}, {MinEgressStrength: 99},
	} {
		_, err := m.CreateSandbox(t.Context(), bad)
		want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	}
}
