package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/policy"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var start = time.Unix(1_800_000_000, 0).UTC()

func compile(tb testing.TB, rules ...policy.Rule) *policy.Set {
	tb.Helper()
	set, problems := policy.Compile(rules)
	for _, p := range problems {
		tb.Fatalf("%v", p)
	}
	return set
}

func described(ids ...string) *providerv1.DescribeResponse {
	d := &providerv1.DescribeResponse{}
	for _, id := range ids {
		d.Capabilities = append(d.Capabilities, &providerv1.Capability{Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED})
	}
	return d
}

// took is a measurement of three creations.
func took(latency time.Duration) placement.Measurement {
	var m placement.Measurement
	for range 3 {
		m = m.Succeeded(start, latency)
	}
	return m
}

// market is three providers that differ in all that a rule may look at.
func market() []placement.Candidate {
	disabled := described("image.oci", "pause")
	disabled.Capabilities = append(disabled.Capabilities, &providerv1.Capability{Id: "compute.gpu", State: providerv1.CapabilityState_CAPABILITY_STATE_DISABLED})
	return []placement.Candidate{
		{
			Name: "home", Policy: placement.Policy{Weight: 100, Region: "eu", Labels: map[string]string{"trust": "own"}},
			Described: described("image.oci", "pause", "pause.memory"), Measured: took(20 * time.Millisecond), Live: 10,
		},
		{
			Name: "cloud", Policy: placement.Policy{Weight: 100, Region: "us", Labels: map[string]string{"trust": "vendor", "tier": "paid"}},
			Described: disabled, Measured: took(900 * time.Millisecond).Failed(start),
		},
		{Name: "fresh", Policy: placement.Policy{Weight: 100}, Described: described("image.oci", "compute.gpu")},
	}
}

// outcome tells a placement in lines: who is chosen, what was denied, and by what
// the scores were moved.
func outcome(p *brokerv1.Placement) []string {
	out := []string{"chosen " + p.GetProvider()}
	for _, c := range p.GetCandidates() {
		for _, o := range c.GetObstacles() {
			out = append(out, fmt.Sprintf("%s %s[%s]: %s", c.GetProvider(), strings.TrimPrefix(o.GetRule().String(), "PLACEMENT_RULE_"), o.GetPolicyRule(), o.GetMessage()))
		}
		for _, a := range c.GetAdjustments() {
			out = append(out, fmt.Sprintf("%s x%g/%d[%s]: %s", c.GetProvider(), a.GetPreference(), a.GetHalfSpread(), a.GetPolicyRule(), a.GetMessage()))
		}
	}
	return out
}

var query = policy.Query{
	Request: &brokerv1.CreateSandboxRequest{
		Name: "n", Labels: map[string]string{"stage": "prod", "team": "red"}, PauseKeeps: &providerv1.Keeps{Disk: true, Memory: true},
		Spec: &providerv1.SandboxSpec{
			Image:     &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian:12"}},
			Resources: &providerv1.Resources{CpuMillis: 1500, MemoryBytes: 1 << 30, Gpu: &providerv1.Gpu{Kind: "H100", Count: 2}},
			Mounts:    []*providerv1.Mount{{Target: "/v", Source: &providerv1.Mount_Volume{Volume: "data"}}},
		},
	},
	Tenant: "bank", Lifetime: time.Hour,
	Caller: policy.Caller{Kind: "api_key", ID: "key_1", Role: "user", Tenant: "bank"},
}

// judge places a request that asks for nothing, which only rules can keep from
// anywhere.
func judge(tb testing.TB, q policy.Query, rules ...policy.Rule) *brokerv1.Placement {
	tb.Helper()
	return placement.Place(compile(tb, rules...).Bind(placement.Requirements{}, q), market(), start)
}

func TestEffects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rules []policy.Rule
		want  []string
	}{
		{"none", nil, []string{"chosen home"}},
		{
			"deny",
			[]policy.Rule{{Name: "no-home", Deny: `provider.name == "home"`}},
			[]string{"chosen fresh", `home POLICY[no-home]: rule "no-home" denies it: provider.name == "home"`},
		},
		{
			"require",
			[]policy.Rule{{Name: "stay", Require: `provider.region == "us"`, Reason: "data stays in the US"}},
			[]string{"chosen cloud", `home POLICY[stay]: rule "stay": data stays in the US`, `fresh POLICY[stay]: rule "stay": data stays in the US`},
		},
		{
			"require without a reason",
			[]policy.Rule{{Name: "gpu", Require: "'compute.gpu' in\n  provider.capabilities"}},
			[]string{
				"chosen fresh",
				`home POLICY[gpu]: rule "gpu" requires 'compute.gpu' in provider.capabilities`,
				`cloud POLICY[gpu]: rule "gpu" requires 'compute.gpu' in provider.capabilities`,
			},
		},
		{
			"prefer",
			[]policy.Rule{{Name: "paid", Prefer: `has(provider.labels.tier)`, Weight: new(1000)}},
			[]string{"chosen cloud", `cloud x10/0[paid]: rule "paid" makes it 10 times as attractive`},
		},
		{
			"shun",
			[]policy.Rule{{Name: "less", Prefer: `provider.warm`, Weight: new(10), Reason: "kept for people"}, {Name: "twice", Prefer: `!provider.warm`}},
			[]string{
				"chosen fresh",
				`fresh x2/0[twice]: rule "twice" makes it 2 times as attractive`,
				`cloud x2/0[twice]: rule "twice" makes it 2 times as attractive`,
				`home x0.1/0[less]: rule "less" makes it 0.1 times as attractive: kept for people`,
			},
		},
		{
			"pin",
			[]policy.Rule{{Name: "there", Pin: "cloud"}},
			[]string{"chosen cloud", `home POLICY[there]: rule "there" pins it to "cloud"`, `fresh POLICY[there]: rule "there" pins it to "cloud"`},
		},
		{
			"two pins",
			[]policy.Rule{{Name: "there", Pin: "cloud"}, {Name: "here", Pin: "home"}},
			[]string{
				"chosen ", `home POLICY[there]: rule "there" pins it to "cloud"`, `cloud POLICY[here]: rule "here" pins it to "home"`,
				`fresh POLICY[there]: rule "there" pins it to "cloud"`, `fresh POLICY[here]: rule "here" pins it to "home"`,
			},
		},
		{
			"a pin and what it may not be",
			[]policy.Rule{{Name: "there", Pin: "cloud"}, {Name: "not-us", Deny: `provider.region == "us"`}},
			[]string{
				"chosen ", `home POLICY[there]: rule "there" pins it to "cloud"`, `cloud POLICY[not-us]: rule "not-us" denies it: provider.region == "us"`,
				`fresh POLICY[there]: rule "there" pins it to "cloud"`,
			},
		},
		{
			"spread, of which the lowest holds",
			[]policy.Rule{{Name: "even", Spread: new(2)}, {Name: "wide", Spread: new(1000)}},
			[]string{
				"chosen fresh",
				`fresh x0/2[even]: rule "even" halves its score at 2 sandboxes`, `fresh x0/1000[wide]: rule "wide" halves its score at 1000 sandboxes`,
				`cloud x0/2[even]: rule "even" halves its score at 2 sandboxes`, `cloud x0/1000[wide]: rule "wide" halves its score at 1000 sandboxes`,
				`home x0/2[even]: rule "even" halves its score at 2 sandboxes`, `home x0/1000[wide]: rule "wide" halves its score at 1000 sandboxes`,
			},
		},
		{
			"of another tenant",
			[]policy.Rule{{Name: "others", Tenants: []string{"shop", "zoo"}, Deny: "true"}, {Name: "ours", Tenants: []string{"shop", "bank"}, Pin: "fresh"}},
			[]string{"chosen fresh", `home POLICY[ours]: rule "ours" pins it to "fresh"`, `cloud POLICY[ours]: rule "ours" pins it to "fresh"`},
		},
		{
			"of another request",
			[]policy.Rule{{Name: "dev", When: `request.labels.stage == "dev"`, Deny: "true"}},
			[]string{"chosen home"},
		},
		{
			"an error of when denies all",
			[]policy.Rule{{Name: "owner", When: `request.labels.owner == "me"`, Prefer: "true"}},
			[]string{
				"chosen ",
				`home POLICY_UNDECIDED[owner]: rule "owner" cannot be decided, which denies: when: no such key: owner`,
				`cloud POLICY_UNDECIDED[owner]: rule "owner" cannot be decided, which denies: when: no such key: owner`,
				`fresh POLICY_UNDECIDED[owner]: rule "owner" cannot be decided, which denies: when: no such key: owner`,
			},
		},
		{
			"an error about a candidate denies that",
			[]policy.Rule{{Name: "quick", Deny: `provider.latency > duration("500ms")`}},
			[]string{
				"chosen home", `cloud POLICY[quick]: rule "quick" denies it: provider.latency > duration("500ms")`,
				`fresh POLICY_UNDECIDED[quick]: rule "quick" cannot be decided, which denies: deny: provider.latency is not known: test has(provider.latency) first`,
			},
		},
		{
			"even one of prefer",
			[]policy.Rule{{Name: "tier", Prefer: `provider.labels["tier"] == "paid"`}},
			[]string{
				"chosen cloud", `cloud x2/0[tier]: rule "tier" makes it 2 times as attractive`,
				`home POLICY_UNDECIDED[tier]: rule "tier" cannot be decided, which denies: prefer: no such key: tier`,
				`fresh POLICY_UNDECIDED[tier]: rule "tier" cannot be decided, which denies: prefer: no such key: tier`,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, outcome(judge(t, query, tc.rules...))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestARequestThatNames is bound by rules as well: to name a provider is no way
// around them.
func TestARequestThatNames(t *testing.T) {
	set := compile(t, policy.Rule{Name: "there", Pin: "cloud"}, policy.Rule{Name: "not-fresh", Deny: `provider.name == "fresh"`})
	for name, want := range map[string][]string{
		"home":  {"chosen ", `home POLICY[there]: rule "there" pins it to "cloud"`, `cloud NOT_NAMED[]: provider is "home": that is another one`, `fresh NOT_NAMED[]: provider is "home": that is another one`},
		"cloud": {"chosen cloud", `home NOT_NAMED[]: provider is "cloud": that is another one`, `fresh NOT_NAMED[]: provider is "cloud": that is another one`},
		"fresh": {
			"chosen ", `home NOT_NAMED[]: provider is "fresh": that is another one`, `cloud NOT_NAMED[]: provider is "fresh": that is another one`,
			`fresh POLICY[there]: rule "there" pins it to "cloud"`, `fresh POLICY[not-fresh]: rule "not-fresh" denies it: provider.name == "fresh"`,
		},
	} {
		got := placement.Place(set.Bind(placement.Requirements{Provider: name}, query), market(), start)
		if diff := cmp.Diff(want, outcome(got)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// TestVariables reads every field there is.
func TestVariables(t *testing.T) {
	needs := placement.Derive(query.Request, query.Lifetime)
	needs.Needs = append(needs.Needs, needs.Needs[0]) // listed once all the same
	for _, text := range []string{
		`request.name == "n" && request.provider == "" && !has(request.provider) && has(request.name)`,
		`request.image == "debian:12" && request.cpu == 1.5 && request.memory == 1073741824 && request.disk == 0 && request.pids == 0`,
		`request.gpus == 2 && request.gpu_kind == "H100" && request.region == "" && request.egress == "deny"`,
		`request.labels == {"team": "red", "stage": "prod"} && size(request.provider_labels) == 0 && !has(request.labels.owner)`,
		`request.labels.all(k, k in ["stage", "team"]) && request.labels.map(k, k) == ["stage", "team"]`,
		`request.capabilities == ["compute.cpu", "compute.gpu", "compute.memory", "image.oci", "mount.volume", "pause.disk", "pause.memory"]`,
		`request.pause_keeps == ["disk", "memory"] && !has(request.snapshot_keeps) && !has(request.fork_keeps)`,
		`request.volumes == ["data"] && request.host_paths == [] && request.lifetime == duration("1h")`,
		`tenant == "bank" && caller.kind == "api_key" && caller.id == "key_1" && caller.name == "" && caller.issuer == ""`,
		`caller.role == "user" && caller.tenant == tenant`,
		`provider.name == "home" && provider.labels.trust == "own" && provider.region == "eu" && "pause.memory" in provider.capabilities`,
		`provider.sandboxes == 10 && provider.failure_rate == 0.0 && provider.circuit == "closed" && provider.warm`,
		`has(provider.latency) && provider.latency >= duration("19ms") && provider.latency <= duration("21ms")`,
		`request.image.matches("^debian:") && request.capabilities.exists(c, c.startsWith("pause."))`,
		`provider == provider && request == request && type(provider) == type(provider)`,
	} {
		set := compile(t, policy.Rule{Name: "r", Require: text})
		p := placement.Place(set.Bind(placement.Requirements{Needs: needs.Needs, Volumes: needs.Volumes}, query), market()[:1], start)
		for _, o := range p.GetCandidates()[0].GetObstacles() {
			if o.GetPolicyRule() != "" {
				t.Errorf("%s\n\tis not so: %s", text, o.GetMessage())
			}
		}
	}
	endless := query
	endless.Request, endless.Lifetime = &brokerv1.CreateSandboxRequest{MaxStartLatency: durationpb.New(time.Second)}, 0
	judged := judge(t, endless, policy.Rule{Name: "r", Require: `!has(request.lifetime) && !has(request.image) && request.cpu == 0.0`}, policy.Rule{Name: "s", Deny: `request.lifetime > duration("1h")`})
	const want = `rule "s" cannot be decided, which denies: deny: request.lifetime has no end: test has(request.lifetime) first`
	if o := judged.GetCandidates()[0].GetObstacles(); len(o) != 1 || o[0].GetMessage() != want {
		t.Errorf("got %v, want only %s", o, want)
	}
}

// TestImages are written as on the command line, and modes of egress in small
// letters.
func TestImages(t *testing.T) {
	for text, spec := range map[string]*providerv1.SandboxSpec{
		`request.image == "host"`:                {Image: &providerv1.Image{Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}}}},
		`request.image == "template:base"`:       {Image: &providerv1.Image{Source: &providerv1.Image_Template{Template: "base"}}},
		`request.image == ""`:                    nil,
		`request.egress == "open"`:               {Egress: &providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_OPEN}},
		`request.egress == "capture"`:            {Egress: &providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_CAPTURE}},
		`request.host_paths.exists(p, p == "/")`: {Mounts: []*providerv1.Mount{{Target: "/m", Source: &providerv1.Mount_HostPath{HostPath: "/"}}}},
	} {
		q := policy.Query{Request: &brokerv1.CreateSandboxRequest{Spec: spec}}
		if got := judge(t, q, policy.Rule{Name: "r", Require: text}); got.GetProvider() != "home" {
			t.Errorf("%s is not so: %v", text, outcome(got))
		}
	}
}

// TestCostIsBounded: what takes too long is undecided, and denies.
func TestCostIsBounded(t *testing.T) {
	labels := map[string]string{}
	for i := range 64 {
		labels[fmt.Sprintf("key-%02d", i)] = strings.Repeat("x", 255)
	}
	q := policy.Query{Request: &brokerv1.CreateSandboxRequest{Labels: labels}}
	const text = `request.labels.all(a, request.labels.all(b, request.labels.all(c, request.labels[a] + request.labels[b] != request.labels[c])))`
	began := time.Now()
	got := judge(t, q, policy.Rule{Name: "deep", Require: text})
	const want = `home POLICY_UNDECIDED[deep]: rule "deep" cannot be decided, which denies: require: it takes more than 10000 steps`
	if lines := outcome(got); lines[0] != "chosen " || lines[1] != want {
		t.Errorf("got %q\nwant %s", lines, want)
	}
	if d := time.Since(began); d > time.Minute { // and not for hours
		t.Errorf("three evaluations took %v", d)
	}
}

// TestTheSameAgain: what depends on the order of labels depends on their keys.
func TestTheSameAgain(t *testing.T) {
	labels := map[string]string{}
	for i := range 16 {
		labels[fmt.Sprintf("key-%02d", i)] = "x"
	}
	q := policy.Query{Request: &brokerv1.CreateSandboxRequest{Labels: labels}}
	for range 50 {
		p := judge(t, q, policy.Rule{Name: "first", Require: `request.labels.map(k, k)[0] == "key-00" && request.labels.map(k, k)[15] == "key-15"`})
		if p.GetProvider() == "" {
			t.Fatalf("the labels came in another order: %v", outcome(p))
		}
	}
}

// BenchmarkPlace is what a choice among three providers costs with ten rules.
func BenchmarkPlace(b *testing.B) {
	var rules []policy.Rule
	for i := range 5 {
		rules = append(
			rules,
			policy.Rule{Name: fmt.Sprintf("d%d", i), When: `request.labels.stage == "prod"`, Deny: `provider.region == "cn"`},
			policy.Rule{Name: fmt.Sprintf("p%d", i), Prefer: `provider.warm && provider.region == "eu"`},
		)
	}
	set, all := compile(b, rules...), market()
	for b.Loop() {
		if placement.Place(set.Bind(placement.Requirements{}, query), all, start).GetProvider() != "home" {
			b.Fatal("not the best")
		}
	}
}
