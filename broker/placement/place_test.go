package placement_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/placement"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// with describes a provider that has capabilities; one that begins with ! is
// switched off, and id:limit=n declares a limit.
func with(capabilities ...string) *providerv1.DescribeResponse {
	d := &providerv1.DescribeResponse{Name: "any"}
	for _, text := range capabilities {
		c := &providerv1.Capability{State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED}
		id, off := strings.CutPrefix(text, "!")
		if off {
			c.State, c.Reason = providerv1.CapabilityState_CAPABILITY_STATE_DISABLED, "the plan does not have it"
		}
		id, limit, limited := strings.Cut(id, ":")
		if limited {
			name, n, _ := strings.Cut(limit, "=")
			most := int64(0)
			for _, digit := range n {
				most = most*10 + int64(digit-'0')
			}
			c.Limits = map[string]int64{name: most}
		}
		c.Id = id
		d.Capabilities = append(d.Capabilities, c)
	}
	return d
}

func candidate(name string, change ...func(*placement.Candidate)) placement.Candidate {
	c := placement.Candidate{Name: name, Policy: placement.Policy{Weight: placement.DefaultWeight}, Described: with()}
	for _, f := range change {
		f(&c)
	}
	return c
}

func messages(c *brokerv1.PlacementCandidate) []string {
	var out []string
	for _, o := range c.GetObstacles() {
		out = append(out, strings.TrimPrefix(o.GetRule().String(), "PLACEMENT_RULE_")+": "+o.GetMessage())
	}
	return out
}

func TestObstacles(t *testing.T) {
	volume := &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{Target: "/v", Source: &providerv1.Mount_Volume{Volume: "data"}}}}
	res := func(r *providerv1.Resources) *brokerv1.CreateSandboxRequest {
		return &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Resources: r}}
	}
	for _, tc := range []struct {
		name      string
		req       *brokerv1.CreateSandboxRequest
		lifetime  time.Duration
		candidate placement.Candidate
		want      []string
	}{
		{name: "nothing asked", candidate: candidate("a")},
		{
			name: "another is named", req: &brokerv1.CreateSandboxRequest{Provider: "b", ProviderLabels: map[string]string{"x": "y"}}, candidate: candidate("a"),
			want: []string{`NOT_NAMED: provider is "b": that is another one`},
		},
		{
			name: "named in spite of its weight and of what was measured", req: &brokerv1.CreateSandboxRequest{Provider: "a"},
			candidate: candidate("a", func(c *placement.Candidate) {
				c.Weight, c.NotReady = 0, "it crashed"
				c.Measured = placement.Measurement{}.Throttled(start, time.Minute).Failed(start).Failed(start).Failed(start)
			}),
		},
		{
			name: "weight", candidate: candidate("a", func(c *placement.Candidate) { c.Weight = 0 }),
			want: []string{`WEIGHT_ZERO: its weight is 0: it is for requests that name it`},
		},
		{
			name: "labels", req: &brokerv1.CreateSandboxRequest{ProviderLabels: map[string]string{"tier": "free", "gdpr": "yes", "ok": "1"}},
			candidate: candidate("a", func(c *placement.Candidate) { c.Labels = map[string]string{"tier": "paid", "ok": "1"} }),
			want: []string{
				`LABEL: provider_labels[gdpr] is "yes": it has no such label`,
				`LABEL: provider_labels[tier] is "free": its label is "paid"`,
			},
		},
		{
			name: "image", req: &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Image: &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian:12"}}}},
			candidate: candidate("a"),
			want:      []string{`CAPABILITY_MISSING: spec.image.oci is "debian:12": it does not have image.oci`},
		},
		{
			name: "switched off", req: &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Image: &providerv1.Image{Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}}}}},
			candidate: candidate("a", func(c *placement.Candidate) { c.Described = with("!image.host") }),
			want:      []string{`CAPABILITY_DISABLED: spec.image.host is set: image.host is switched off there, the plan does not have it`},
		},
		{
			name: "mounts", req: &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{
				{Target: "/w", Mode: providerv1.MountMode_MOUNT_MODE_OVERLAY, Source: &providerv1.Mount_HostPath{HostPath: "/src"}},
			}}},
			candidate: candidate("a"),
			want: []string{
				`CAPABILITY_MISSING: spec.mounts[0].host_path is "/src": it does not have mount.host`,
				`CAPABILITY_MISSING: spec.mounts[0].mode is "MOUNT_MODE_OVERLAY": it does not have mount.overlay`,
			},
		},
		{
			name: "pause keeps", req: &brokerv1.CreateSandboxRequest{PauseKeeps: &providerv1.Keeps{Disk: true, Memory: true}},
			candidate: candidate("a", func(c *placement.Candidate) { c.Described = with("pause", "pause.disk") }),
			want:      []string{`CAPABILITY_MISSING: pause_keeps.memory is set: it does not have pause.memory`},
		},
		{
			name:      "idle pause",
			req:       &brokerv1.CreateSandboxRequest{Idle: &brokerv1.Idle{Timeout: durationpb.New(time.Minute), Action: brokerv1.IdleAction_IDLE_ACTION_PAUSE}},
			candidate: candidate("a"),
			want:      []string{`CAPABILITY_MISSING: idle.action is "PAUSE": it does not have pause`},
		},
		{
			name: "limits", req: res(&providerv1.Resources{CpuMillis: 1500, MemoryBytes: 64 << 30, DiskBytes: 1000, Pids: 10}),
			candidate: candidate("a", func(c *placement.Candidate) {
				c.Described = with("compute.cpu:max=1000", "compute.memory:max=34359738368", "compute.disk:max=1000", "compute.pids:max=9")
			}),
			want: []string{
				`LIMIT: spec.resources.cpu_millis is "1.5 CPUs": its limit is 1 CPUs`,
				`LIMIT: spec.resources.memory_bytes is "64GiB": its limit is 32GiB`,
				`LIMIT: spec.resources.pids is "10": its limit is 9`,
			},
		},
		{
			name: "no such limit without the capability", req: res(&providerv1.Resources{Pids: 10}), candidate: candidate("a"),
			want: []string{`CAPABILITY_MISSING: spec.resources.pids is "10": it does not have compute.pids`},
		},
		{
			name: "lifetime, which a broker can end too", lifetime: time.Hour, candidate: candidate("a"),
		},
		{
			name: "lifetime", lifetime: time.Hour, candidate: candidate("a", func(c *placement.Candidate) { c.Described = with("lifetime.native:max_seconds=600") }),
			want: []string{`LIMIT: lifetime is "1h0m0s": its limit is 10m0s`},
		},
		{
			name: "volume", req: &brokerv1.CreateSandboxRequest{Spec: volume},
			candidate: candidate("a", func(c *placement.Candidate) { c.Described, c.Volumes = with("mount.volume"), []string{"other"} }),
			want:      []string{`VOLUME: spec.mounts[0].volume is "data": it has no such volume`},
		},
		{
			name: "no volumes at all", req: &brokerv1.CreateSandboxRequest{Spec: volume}, candidate: candidate("a"),
			want: []string{`CAPABILITY_MISSING: spec.mounts[0].volume is "data": it does not have mount.volume`},
		},
		{
			name: "not started", candidate: candidate("a", func(c *placement.Candidate) { c.Described = nil }),
			want: []string{`NOT_READY: it cannot be asked now: it has not started yet`},
		},
		{
			name: "crashed", candidate: candidate("a", func(c *placement.Candidate) { c.Described, c.NotReady = nil, "it crashed" }),
			want: []string{`NOT_READY: it cannot be asked now: it crashed`},
		},
		{
			name: "cooling down", candidate: candidate("a", func(c *placement.Candidate) { c.Measured = c.Measured.Throttled(start, 90*time.Second) }),
			want: []string{`COOLING_DOWN: it asked for fewer calls, and is left alone for 1m30s more`},
		},
		{
			name:      "open circuit",
			candidate: candidate("a", func(c *placement.Candidate) { c.Measured = c.Measured.Failed(start).Failed(start).Failed(start) }),
			want:      []string{`CIRCUIT_OPEN: creations fail there (3 in a row), and it is left alone for 30s more`},
		},
		{
			name: "half-open circuit that another one tries",
			candidate: candidate("a", func(c *placement.Candidate) {
				at := start.Add(-time.Minute)
				c.Measured, c.Probing = c.Measured.Failed(at).Failed(at).Failed(at), true
			}),
			want: []string{`CIRCUIT_PROBING: creations failed there (3 in a row), and another one is finding out whether it works again`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := placement.Place(placement.Derive(tc.req, tc.lifetime), []placement.Candidate{tc.candidate}, start)
			if diff := cmp.Diff(tc.want, messages(got.GetCandidates()[0])); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if chosen := got.GetProvider() != ""; chosen != (tc.want == nil) {
				t.Errorf("chosen: %q", got.GetProvider())
			}
		})
	}
}

func TestRegion(t *testing.T) {
	req := &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Region: "eu"}}
	in := func(region string, capabilities ...string) placement.Candidate {
		return candidate("a", func(c *placement.Candidate) { c.Region, c.Described = region, with(capabilities...) })
	}
	for _, tc := range []struct {
		name      string
		candidate placement.Candidate
		want      []string
	}{
		{"configured there", in("eu"), nil},
		{"can choose", in("", "placement.region"), nil},
		{"configured elsewhere", in("us", "placement.region"), []string{`REGION: spec.region is "eu": it is in "us"`}},
		{"nobody said", in(""), []string{`CAPABILITY_MISSING: spec.region is "eu": it does not have placement.region`}},
	} {
		got := placement.Place(placement.Derive(req, 0), []placement.Candidate{tc.candidate}, start)
		if diff := cmp.Diff(tc.want, messages(got.GetCandidates()[0])); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.name, diff)
		}
	}
}

func TestOrder(t *testing.T) {
	slow := func(c *placement.Candidate) { c.Measured = c.Measured.Succeeded(start, 5*time.Second) }
	flaky := func(c *placement.Candidate) { c.Measured = c.Measured.Failed(start) }
	full := func(c *placement.Candidate) { c.Live = 50 }
	isDefault := func(c *placement.Candidate) { c.Default = true }
	heavy := func(c *placement.Candidate) { c.Weight = 1000 }
	out := func(c *placement.Candidate) { c.Weight = 0 }
	for _, tc := range []struct {
		name       string
		candidates []placement.Candidate
		want       string
	}{
		{"equals as given", []placement.Candidate{candidate("b"), candidate("a"), candidate("c")}, "b a c"},
		{"the default among equals", []placement.Candidate{candidate("b"), candidate("a", isDefault), candidate("c")}, "a b c"},
		{"quick before slow, even the default", []placement.Candidate{candidate("a", slow, isDefault), candidate("b")}, "b a"},
		{"sound before flaky", []placement.Candidate{candidate("a", flaky), candidate("b")}, "b a"},
		{"empty before full", []placement.Candidate{candidate("a", full), candidate("b")}, "b a"},
		{"weight before all of that", []placement.Candidate{candidate("b"), candidate("a", slow, flaky, full, heavy)}, "a b"},
		{"the ruled out last", []placement.Candidate{candidate("x", out), candidate("b", slow), candidate("y", out), candidate("a")}, "a b x y"},
		{"nobody", nil, ""},
	} {
		got := placement.Place(placement.Requirements{}, tc.candidates, start)
		var names []string
		for _, c := range got.GetCandidates() {
			names = append(names, c.GetProvider())
		}
		if diff := cmp.Diff(tc.want, strings.Join(names, " ")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.name, diff)
		}
	}
}

// BenchmarkPlace is what a choice among five providers costs.
func BenchmarkPlace(b *testing.B) {
	var candidates []placement.Candidate
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		candidates = append(candidates, candidate(name, func(c *placement.Candidate) { c.Described = with(pool...) }))
	}
	req := &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
		Image:     &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian"}},
		Resources: &providerv1.Resources{MemoryBytes: 900},
	}}
	for b.Loop() {
		if placement.Place(placement.Derive(req, 0), candidates, start).GetProvider() != "a" {
			b.Fatal("not the first")
		}
	}
}

// TestStartLatency: what is asked is compared with what was measured, and unknown
// is said.
func TestStartLatency(t *testing.T) {
	measured := func(took time.Duration) func(*placement.Candidate) {
		return func(c *placement.Candidate) { c.Measured = c.Measured.Succeeded(start, took).Succeeded(start, took) }
	}
	at := func(limit time.Duration, unmeasured bool) *brokerv1.CreateSandboxRequest {
		return &brokerv1.CreateSandboxRequest{MaxStartLatency: durationpb.New(limit), AllowUnmeasured: unmeasured}
	}
	const unknown = `START_LATENCY_UNKNOWN: max_start_latency is "500ms": how long it takes is unknown, and allow_unmeasured is not set`
	named := at(500*time.Millisecond, false)
	named.Provider = "a"
	for _, tc := range []struct {
		name      string
		req       *brokerv1.CreateSandboxRequest
		candidate placement.Candidate
		later     time.Duration
		want      []string
	}{
		{name: "quick enough", req: at(500*time.Millisecond, false), candidate: candidate("a", measured(500*time.Millisecond))},
		{
			name: "too slow", req: at(500*time.Millisecond, true), candidate: candidate("a", measured(501*time.Millisecond)),
			want: []string{`START_LATENCY: max_start_latency is "500ms": its recent creations took 501ms`},
		},
		{name: "unknown", req: at(500*time.Millisecond, false), candidate: candidate("a"), want: []string{unknown}},
		{name: "unknown will do", req: at(500*time.Millisecond, true), candidate: candidate("a")},
		{
			name: "only failures", req: at(500*time.Millisecond, false), want: []string{unknown},
			candidate: candidate("a", func(c *placement.Candidate) { c.Measured = c.Measured.Failed(start) }),
		},
		{
			name: "forgotten", req: at(500*time.Millisecond, false), candidate: candidate("a", measured(time.Millisecond)), later: time.Hour,
			want: []string{unknown},
		},
		{name: "remembered", req: at(500*time.Millisecond, false), candidate: candidate("a", measured(time.Millisecond)), later: 40 * time.Minute},
		{name: "the named one too", req: named, candidate: candidate("a"), want: []string{unknown}},
	} {
		p := placement.Place(placement.Derive(tc.req, 0), []placement.Candidate{tc.candidate}, start.Add(tc.later))
		if diff := cmp.Diff(tc.want, messages(p.GetCandidates()[0])); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.name, diff)
		}
	}
}

func TestStrengths(t *testing.T) {
	const (
		enforced = providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED
		native   = providerv1.EgressStrength_EGRESS_STRENGTH_NATIVE
		some     = providerv1.EgressStrength_EGRESS_STRENGTH_COOPERATIVE
		none     = providerv1.EgressStrength_EGRESS_STRENGTH_NONE
	)
	for _, tc := range []struct {
		name string
		req  *brokerv1.CreateSandboxRequest
		have []string
		want []string
	}{
		{"captured", &brokerv1.CreateSandboxRequest{MinEgressStrength: enforced}, []string{"egress.capture"}, nil},
		{"the vendor is no witness", &brokerv1.CreateSandboxRequest{MinEgressStrength: enforced}, []string{"egress.native"}, []string{
			`CAPABILITY_MISSING: min_egress_strength is "ENFORCED": it does not have egress.capture`,
		}},
		{"switched off", &brokerv1.CreateSandboxRequest{MinEgressStrength: enforced}, []string{"!egress.capture"}, []string{
			`CAPABILITY_DISABLED: min_egress_strength is "ENFORCED": egress.capture is switched off there, the plan does not have it`,
		}},
		{"the vendor's will do", &brokerv1.CreateSandboxRequest{MinEgressStrength: native}, []string{"egress.native"}, nil},
		{"more will do", &brokerv1.CreateSandboxRequest{MinEgressStrength: some}, []string{"egress.capture"}, nil},
		{"neither", &brokerv1.CreateSandboxRequest{MinEgressStrength: native}, []string{"egress.deny", "!egress.native"}, []string{
			`CAPABILITY_MISSING: min_egress_strength is "NATIVE": it has neither egress.capture nor egress.native`,
		}},
		{"any", &brokerv1.CreateSandboxRequest{MinEgressStrength: none}, nil, nil},
		{"snapshots", &brokerv1.CreateSandboxRequest{SnapshotKeeps: &providerv1.Keeps{Disk: true, Memory: true}}, []string{"snapshot", "snapshot.disk"}, []string{
			`CAPABILITY_MISSING: snapshot_keeps.memory is set: it does not have snapshot.memory`,
		}},
		{"copies", &brokerv1.CreateSandboxRequest{ForkKeeps: &providerv1.Keeps{Disk: true, Processes: true}}, []string{"fork", "fork.disk", "fork.processes"}, nil},
		{
			"GPUs", &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Resources: &providerv1.Resources{Gpu: &providerv1.Gpu{Count: 1}}}}, nil,
			[]string{`CAPABILITY_MISSING: spec.resources.gpu is set: it does not have compute.gpu`},
		},
	} {
		c := candidate("a", func(c *placement.Candidate) { c.Described = with(tc.have...) })
		p := placement.Place(placement.Derive(tc.req, 0), []placement.Candidate{c}, start)
		if diff := cmp.Diff(tc.want, messages(p.GetCandidates()[0])); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.name, diff)
		}
	}
}
