package broker_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/policy"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// market is a service over several vendors, of which the first is much preferred.
type market struct {
	*broker.Service
	t       *testing.T
	vendors map[string]*testvendor.Vendor
	fleet   *testvendor.Fleet
	store   state.Store
	clock   *clock
	// policies are what the configuration says about providers; what it does not say
	// is that the first one is much preferred.
	policies map[string]placement.Policy
	// set has the rules of the next start.
	set *policy.Set
}

func newMarket(t *testing.T, names ...string) *market {
	t.Helper()
	return newMarketWith(t, nil, names...)
}

func newMarketWith(t *testing.T, policies map[string]placement.Policy, names ...string) *market {
	t.Helper()
	dir := t.TempDir()
	m := &market{t: t, vendors: map[string]*testvendor.Vendor{}, fleet: &testvendor.Fleet{}, clock: &clock{now: time.Now()}, policies: policies}
	t.Cleanup(m.fleet.Close)
	for _, name := range names {
		m.vendors[name] = testvendor.New()
		if policies != nil {
			m.vendors[name].Declare(slices.Concat(testvendor.Capabilities, []string{"compute.cpu"})...)
		}
		socket := filepath.Join(dir, name)
		stop, err := testvendor.Serve(m.vendors[name], socket)
		check(t, err)
		t.Cleanup(stop)
		check(t, m.fleet.Dial(name, socket))
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	m.store = store
	m.start()
	return m
}

// start starts a service, after the one before has been closed.
func (m *market) start() {
	m.t.Helper()
	first := m.fleet.Names()[0]
	policies := map[string]placement.Policy{first: {Weight: 1000, Labels: map[string]string{"tier": "first"}, Region: "eu"}}
	maps.Copy(policies, m.policies)
	s, err := broker.New(m.t.Context(), m.store, m.fleet, broker.Options{
		Caller: &local, Clock: m.clock.Now, Retry: 5 * time.Millisecond, Rules: m.set, Placement: policies, BudgetInterval: 5 * time.Millisecond,
	})
	check(m.t, err)
	m.t.Cleanup(func() { s.Close(context.Background()) })
	m.Service = s
}

// fails makes every creation at a vendor end with an error, before or after its
// effect; nil stops that.
func (m *market) fails(vendor string, after bool, err error) {
	m.vendors[vendor].SetHook(func(_ context.Context, method string, a bool) error {
		if method == "CreateSandbox" && a == after {
			return err
		}
		return nil
	})
}

func (m *market) create(req *brokerv1.CreateSandboxRequest) *brokerv1.Sandbox {
	m.t.Helper()
	sb, err := m.CreateSandbox(m.t.Context(), req)
	check(m.t, err)
	return sb
}

// at creates a sandbox that must get to a provider.
func (m *market) at(provider string) *brokerv1.Sandbox {
	m.t.Helper()
	sb := m.create(&brokerv1.CreateSandboxRequest{})
	if sb.GetProvider() != provider {
		m.t.Fatalf("it is at %q, want %q", sb.GetProvider(), provider)
	}
	return sb
}

// rules returns what rules a provider out now.
func (m *market) rules(provider string) string {
	m.t.Helper()
	p, err := m.PlanSandbox(m.t.Context(), &brokerv1.CreateSandboxRequest{})
	check(m.t, err)
	return rulesOf(p, provider)
}

func rulesOf(p *brokerv1.Placement, provider string) string {
	var out []string
	for _, c := range p.GetCandidates() {
		for _, o := range c.GetObstacles() {
			if c.GetProvider() == provider {
				out = append(out, strings.TrimPrefix(o.GetRule().String(), "PLACEMENT_RULE_"))
			}
		}
	}
	return strings.Join(out, " ")
}

var (
	noRoom    = fault.New(providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED, "no room")
	throttled = fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "slow down").WithRetryAfter(time.Minute)
)

func TestFailOverAfterAProvenAbsence(t *testing.T) {
	m := newMarket(t, "a", "b", "c")
	m.fails("a", false, noRoom)
	sb := m.create(&brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"})
	if sb.GetProvider() != "b" || sb.GetName() != "n" {
		t.Fatalf("made %v", sb)
	}
	if again := m.create(&brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}); again.GetSandboxId() != sb.GetSandboxId() {
		t.Errorf("the same key made %s and %s", sb.GetSandboxId(), again.GetSandboxId())
	}
	if got := m.vendors["a"].Calls("CreateSandbox"); got != 1 {
		t.Errorf("a was called %d times although b was there", got)
	}
	p, err := m.ExplainSandbox(t.Context(), "n")
	check(t, err)
	if p.GetProvider() != "b" || len(p.GetCandidates()) != 3 || len(p.GetAttempts()) != 1 {
		t.Fatalf("explained as %v", p)
	}
	if a := p.GetAttempts()[0]; a.GetProvider() != "a" || a.GetReason() != "CAPACITY_EXHAUSTED" || a.GetMessage() != "no room" {
		t.Errorf("the first attempt is explained as %v", a)
	}
}

func TestNoFailOverAfterAnUnknownEffect(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.fails("a", true, fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "confused"))
	_, err := m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"})
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG); f.Effect != providerv1.Effect_EFFECT_UNKNOWN {
		t.Errorf("effect is %v", f.Effect)
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("b was asked %d times while nobody knew what a had made", n)
	}
	sb, err := m.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: "n", Refresh: true})
	check(t, err)
	if sb.GetProvider() != "a" || sb.GetState() != running || m.vendors["a"].Made() != 1 {
		t.Errorf("settled as %v, of %d made", sb, m.vendors["a"].Made())
	}
}

// TestACallersMistakeStaysOne: it is not tried elsewhere, and blames nobody.
func TestACallersMistakeStaysOne(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.fails("a", false, fault.Field("spec.workdir", "x", "want an absolute path"))
	for range 5 {
		_, err := m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{})
		want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("b was asked %d times", n)
	}
	if got := m.rules("a"); got != "" {
		t.Errorf("a is ruled out by %s", got)
	}
}

func TestFailOverEnds(t *testing.T) {
	m := newMarket(t, "a", "b", "c", "d")
	for name := range m.vendors {
		m.fails(name, false, noRoom)
	}
	_, err := m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{IdempotencyKey: "k"})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED)
	if f.Metadata["tried"] != "a,b" || f.Metadata["provider"] != "c" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("fault is %+v", f)
	}
	if n := m.vendors["d"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("a fourth provider was asked %d times", n)
	}
	list, err := m.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
	check(t, err)
	if len(list.GetSandboxes()) != 0 {
		t.Errorf("left: %v", list)
	}
	m.fails("d", false, nil)
	m.create(&brokerv1.CreateSandboxRequest{IdempotencyKey: "k", Provider: "d", Labels: nil}) // name and key are free
}

func TestConstraints(t *testing.T) {
	m := newMarket(t, "a", "b", "c")
	m.vendors["b"].Declare(append([]string{"image.oci", "compute.memory"}, testvendor.Capabilities...)...)
	m.vendors["b"].Limit("compute.memory", "max", 1<<30)
	oci := &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian"}}
	if sb := m.create(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Image: oci}}); sb.GetProvider() != "b" {
		t.Errorf("an image went to %q", sb.GetProvider())
	}
	_, err := m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{
		Spec: &providerv1.SandboxSpec{Image: oci, Resources: &providerv1.Resources{MemoryBytes: 2 << 30}},
	})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	const say = `no provider can make this sandbox: a: spec.image.oci is "debian": it does not have image.oci; ` +
		`b: spec.resources.memory_bytes is "2GiB": its limit is 1GiB; c: spec.image.oci is "debian": it does not have image.oci`
	if diff := cmp.Diff(say, f.Message); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if sb := m.create(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Region: "eu"}}); sb.GetProvider() != "a" || sb.GetSpec().GetRegion() != "eu" {
		t.Errorf("the region led to %v", sb)
	}
	_, err = m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Provider: "b", ProviderLabels: map[string]string{"tier": "first"}})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	_, err = m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Provider: "c", Spec: &providerv1.SandboxSpec{Image: oci}})
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED); f.Metadata["field"] != "spec.image.oci" {
		t.Errorf("fault is %+v", f)
	}
	_, err = m.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Provider: "nobody"})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED)
}

func TestAVolumeIsWhereItIs(t *testing.T) {
	m := newMarket(t, "a", "b")
	for _, v := range m.vendors {
		v.Declare(append([]string{"mount.volume"}, testvendor.Capabilities...)...)
	}
	_, err := m.CreateVolume(t.Context(), &brokerv1.CreateVolumeRequest{Name: "data", Provider: "b"})
	check(t, err)
	sb := m.create(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
		Mounts: []*providerv1.Mount{{Target: "/v", Source: &providerv1.Mount_Volume{Volume: "data"}}},
	}})
	if sb.GetProvider() != "b" {
		t.Errorf("it is at %q, the volume at b", sb.GetProvider())
	}
}

func TestPlanMakesNothing(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.fleet.SetDown("b", "it crashed")
	p, err := m.PlanSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"})
	check(t, err)
	if p.GetProvider() != "a" || rulesOf(p, "b") != "NOT_READY" {
		t.Errorf("planned %v", p)
	}
	if n := m.vendors["a"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("a plan called CreateSandbox %d times", n)
	}
	p, err = m.PlanSandbox(t.Context(), &brokerv1.CreateSandboxRequest{ProviderLabels: map[string]string{"tier": "none"}})
	check(t, err) // that nobody will do is an answer
	if p.GetProvider() != "" || rulesOf(p, "a") != "LABEL" {
		t.Errorf("planned %v", p)
	}
}

// TestSandboxesAreCounted, however they come and go, and after a restart.
func TestSandboxesAreCounted(t *testing.T) {
	m := newMarket(t, "a", "b")
	expect := func(want int64) {
		t.Helper()
		p, err := m.PlanSandbox(t.Context(), &brokerv1.CreateSandboxRequest{})
		check(t, err)
		if c := p.GetCandidates()[0]; c.GetProvider() != "a" || c.GetScore().GetSandboxes() != want {
			t.Errorf("counted %v, want %d at a", c, want)
		}
	}
	sb := m.at("a")
	m.at("a")
	_, err := m.ForkSandbox(t.Context(), &brokerv1.ForkSandboxRequest{Sandbox: sb.GetSandboxId(), Count: 3})
	check(t, err)
	m.fails("a", false, noRoom)
	m.at("b")
	m.fails("a", false, nil)
	expect(5)
	_, err = m.DeleteSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	expect(4)
	m.Close(t.Context())
	m.start()
	expect(4)
}

func TestExplainCopies(t *testing.T) {
	m := newMarket(t, "a", "b")
	sb := m.at("a")
	copies, err := m.ForkSandbox(t.Context(), &brokerv1.ForkSandboxRequest{Sandbox: sb.GetSandboxId(), Count: 1})
	check(t, err)
	p, err := m.ExplainSandbox(t.Context(), copies[0].GetSandboxId())
	check(t, err)
	if p.GetProvider() != "a" || p.GetNote() != "it was made from "+sb.GetSandboxId()+", which is there" {
		t.Errorf("explained as %v", p)
	}
	_, err = m.DeleteSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	p, err = m.ExplainSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	if len(p.GetCandidates()) != 2 {
		t.Errorf("a deleted one is explained as %v", p)
	}
	_, err = m.ExplainSandbox(t.Context(), "nobody")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
}
