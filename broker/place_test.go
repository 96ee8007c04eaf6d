package broker_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/placement"
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
}

func newMarket(t *testing.T, names ...string) *market {
	t.Helper()
	dir := t.TempDir()
	m := &market{t: t, vendors: map[string]*testvendor.Vendor{}, fleet: &testvendor.Fleet{}, clock: &clock{now: time.Now()}}
	t.Cleanup(m.fleet.Close)
	for _, name := range names {
		m.vendors[name] = testvendor.New()
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
	s, err := broker.New(m.t.Context(), m.store, m.fleet, broker.Options{
		Clock: m.clock.Now, Retry: 5 * time.Millisecond,
		Placement: map[string]placement.Policy{first: {Weight: 1000, Labels: map[string]string{"tier": "first"}, Region: "eu"}},
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

func TestCoolDown(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.at("a")
	m.fails("a", false, throttled)
	m.at("b")
	m.fails("a", false, nil)
	m.clock.add(59 * time.Second)
	m.at("b")
	if got := m.rules("a"); got != "COOLING_DOWN" {
		t.Errorf("a is ruled out by %q", got)
	}
	// What the vendor asked for outlives the broker, even one that is killed.
	m.stored(func(all map[string]placement.Measurement) bool { return all["a"].CoolUntil.After(m.clock.Now()) })
	m.Close(t.Context())
	m.start()
	m.at("b")
	m.clock.add(2 * time.Second)
	m.at("a")
}

// stored waits until what is stored is as ok wants it.
func (m *market) stored(ok func(map[string]placement.Measurement) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := m.store.Measurements(ctx)
		check(m.t, err)
		if ok(all) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.t.Fatalf("stored is %v", all)
		}
	}
}

func TestNowhereToGoSaysWhenToComeBack(t *testing.T) {
	m := newMarket(t, "a", "b")
	for name := range m.vendors {
		m.vendors[name].SetHook(once("CreateSandbox", false, throttled))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The last one is waited for as long as a call may take, which is not a minute.
	_, err := m.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	m.clock.add(20 * time.Second)
	_, err = m.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	if f.RetryAfter != 40*time.Second || f.Effect != providerv1.Effect_EFFECT_NONE || !strings.Contains(f.Message, "a: it asked for fewer calls") {
		t.Errorf("fault is %+v", f)
	}
	if a, b := m.vendors["a"].Calls("CreateSandbox"), m.vendors["b"].Calls("CreateSandbox"); a != 1 || b != 1 {
		t.Errorf("a was called %d and b %d times", a, b)
	}
}

func TestCircuit(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.fails("a", false, noRoom)
	for range 3 {
		m.at("b")
	}
	if got := m.rules("a"); got != "CIRCUIT_OPEN" {
		t.Fatalf("a is ruled out by %q", got)
	}
	m.at("b")
	if n := m.vendors["a"].Calls("CreateSandbox"); n != 3 {
		t.Errorf("a was called %d times, want 3", n)
	}
	m.Close(t.Context())
	m.start()
	if got := m.rules("a"); got != "CIRCUIT_OPEN" {
		t.Fatalf("after a restart a is ruled out by %q", got)
	}
	m.clock.add(30 * time.Second)
	m.at("b") // the probe fails, and the circuit is open for a minute
	if n := m.vendors["a"].Calls("CreateSandbox"); n != 4 {
		t.Errorf("a was called %d times, want 4", n)
	}
	m.clock.add(59 * time.Second)
	m.at("b")
	m.fails("a", false, nil)
	m.clock.add(time.Second)
	m.oneProbe()
	if got := m.rules("a"); got != "" {
		t.Errorf("a works and is ruled out by %q", got)
	}
	m.at("a")
}

// oneProbe creates at a, whose circuit is half-open, and another meanwhile.
func (m *market) oneProbe() {
	m.t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	var one sync.Once
	m.vendors["a"].SetHook(func(_ context.Context, method string, after bool) error {
		if method == "CreateSandbox" && !after {
			one.Do(func() { close(entered); <-leave })
		}
		return nil
	})
	probed := make(chan string, 1)
	go func() {
		sb, err := m.CreateSandbox(m.t.Context(), &brokerv1.CreateSandboxRequest{})
		if err != nil {
			m.t.Error(err)
		}
		probed <- sb.GetProvider()
	}()
	<-entered
	if got := m.rules("a"); got != "CIRCUIT_PROBING" {
		m.t.Errorf("while it is probed a is ruled out by %q", got)
	}
	m.at("b")
	close(leave)
	if got := <-probed; got != "a" {
		m.t.Errorf("the probe went to %q", got)
	}
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
