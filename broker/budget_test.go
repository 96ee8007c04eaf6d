package broker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const overQuota = providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED

// evening is four hours before the last day of a month.
var evening = time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)

// dear costs a dollar for each CPU and hour while it runs, and a cent paused.
var dear = placement.Policy{Weight: 1000, Book: &price.Book{
	Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC, CPU: 1_000_000_000, Paused: 10_000_000, Start: 500,
}}

// as is a call of the local admin for a tenant.
func as(t *testing.T, tenant string) context.Context {
	t.Helper()
	who := local
	who.Acting = tenant
	return authz.With(t.Context(), who)
}

func (m *market) tenant(name string, l *brokerv1.Limits) {
	m.t.Helper()
	check(m.t, m.store.InsertTenant(m.t.Context(), &brokerv1.Tenant{Name: name, Limits: l}))
}

func sized(cpu int64) *brokerv1.CreateSandboxRequest {
	return &brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Resources: &providerv1.Resources{CpuMillis: cpu}}}
}

func (m *market) createFor(tenant string, req *brokerv1.CreateSandboxRequest) *brokerv1.Sandbox {
	m.t.Helper()
	sb, err := m.CreateSandbox(as(m.t, tenant), req)
	check(m.t, err)
	return sb
}

// becomes waits until a vendor has a sandbox in a state; UNSPECIFIED is not at all.
func (m *market) becomes(vendor, id string, want providerv1.SandboxState) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if !m.vendors[vendor].Await(ctx, func(all map[string]*providerv1.Sandbox) bool { return all[id].GetState() == want }) {
		m.t.Fatalf("%s is %v, want %v", id, m.vendors[vendor].Sandboxes()[id].GetState(), want)
	}
}

// TestBudgetPauses: what runs is paused when the budget of its tenant is spent, and
// cannot be resumed before there is a new one; what others have runs on.
func TestBudgetPauses(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a")
	m.clock.set(evening)
	budget := &brokerv1.Budget{MoneyMicros: 2_000_000, Currency: "USD"}
	m.tenant("spender", &brokerv1.Limits{Monthly: budget, WhenSpent: brokerv1.WhenSpent_WHEN_SPENT_PAUSE})
	m.tenant("lenient", &brokerv1.Limits{Monthly: budget})
	spends, runsOn, free := m.createFor("spender", sized(1000)), m.createFor("lenient", sized(1000)), m.create(sized(1000))
	events := m.watch(t)
	m.clock.add(115 * time.Minute)
	again := m.createFor("spender", sized(100))
	m.clock.add(6 * time.Minute)
	m.becomes("a", spends.GetSandboxId(), paused)
	m.becomes("a", again.GetSandboxId(), paused)
	for _, sb := range []*brokerv1.Sandbox{runsOn, free} {
		if got := m.vendors["a"].Sandboxes()[sb.GetSandboxId()].GetState(); got != running {
			t.Errorf("%s of %s is %v", sb.GetSandboxId(), sb.GetTenant(), got)
		}
	}
	events.expect(spends.GetSandboxId(), "the budget for the month is spent: 2.0")

	_, err := m.ResumeSandbox(as(t, "spender"), spends.GetSandboxId())
	f := want(t, err, overQuota)
	if f.Metadata["limit"] != "monthly.money_micros" || f.Metadata["tenant"] != "spender" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("the refusal is %+v", f)
	}
	for _, tenant := range []string{"spender", "lenient"} {
		_, err = m.CreateSandbox(as(t, tenant), sized(1))
		want(t, err, overQuota)
	}
	m.clock.add(27 * time.Hour)
	if sb, err := m.ResumeSandbox(as(t, "spender"), spends.GetSandboxId()); err != nil || sb.GetState() != running {
		t.Errorf("in another month: %v, %v", sb.GetState(), err)
	}
}

// TestBudgetDeletes: or it is deleted, if that is the policy.
func TestBudgetDeletes(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a")
	m.clock.set(evening)
	m.tenant("spender", &brokerv1.Limits{Daily: &brokerv1.Budget{CpuSeconds: 600}, WhenSpent: brokerv1.WhenSpent_WHEN_SPENT_DELETE})
	events := m.watch(t)
	sb := m.createFor("spender", sized(2000))
	m.clock.add(301 * time.Second)
	m.becomes("a", sb.GetSandboxId(), providerv1.SandboxState_SANDBOX_STATE_UNSPECIFIED)
	events.expect(sb.GetSandboxId(), "the budget for the day is spent: ")
}

// TestBudgetIsReserved: of many creations at the same moment only so many are let in as the
// budget lasts for, whichever of them run already, and what ends makes room.
func TestBudgetIsReserved(t *testing.T) {
	const lastsFor, callers = 5, 12
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a")
	m.clock.set(evening)
	// Each costs 500 millionths for its start and 1000 for a minute.
	m.tenant("spender", &brokerv1.Limits{Daily: &brokerv1.Budget{MoneyMicros: lastsFor*1500 + 1499, Currency: "USD"}})
	ctx := as(t, "spender")
	ids, errs := make([]string, callers), make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			sb, err := m.CreateSandbox(ctx, sized(60))
			ids[i], errs[i] = sb.GetSandboxId(), err
		})
	}
	all.Wait()
	made := ""
	for i, err := range errs {
		if err == nil {
			made = ids[i]
			continue
		}
		if f := want(t, err, overQuota); f.Metadata["limit"] != "daily.money_micros" || f.Metadata["held"] == "" {
			t.Errorf("the refusal is %+v", f)
		}
	}
	if n := m.vendors["a"].Calls("CreateSandbox"); n != lastsFor {
		t.Fatalf("the provider was asked for %d, and the budget lasts for %d", n, lastsFor)
	}
	_, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: made, Count: 1})
	want(t, err, overQuota)
	_, err = m.DeleteSandbox(ctx, made)
	check(t, err)
	m.createFor("spender", sized(60))
	_, err = m.CreateSandbox(ctx, sized(60))
	want(t, err, overQuota)
}

// watcher reads events of all tenants.
type watcher struct {
	m      *market
	cursor string
}

func (m *market) watch(t *testing.T) *watcher {
	t.Helper()
	_, newest, err := m.store.EventBounds(t.Context())
	check(t, err)
	return &watcher{m, newest}
}

// expect waits for an event of a sandbox with a reason.
func (w *watcher) expect(id, reason string) {
	w.m.t.Helper()
	ctx, cancel := context.WithTimeout(w.m.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		events, next, err := w.m.store.Events(ctx, w.cursor, 100)
		check(w.m.t, err)
		for _, e := range events {
			if e.GetSandboxId() == id && strings.HasPrefix(e.GetReason(), reason) {
				return
			}
		}
		w.cursor = next
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.m.t.Fatalf("no event of %s tells %q", id, reason)
		}
	}
}

// TestQuotas: what a tenant may not have is refused before any provider is asked,
// and counts what is made in every way.
func TestQuotas(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": {Weight: 1000, Assumed: price.Amounts{CPUMillis: 500}}}, "a", "b")
	m.tenant("acme", &brokerv1.Limits{MaxSandboxes: 4, MaxCpuMillis: 2500})
	ctx := as(t, "acme")
	first := m.createFor("acme", &brokerv1.CreateSandboxRequest{}) // half a CPU, says the configuration
	if first.GetRate().GetCpuMillis() != 500 || first.GetRate().GetPrice() != nil {
		t.Errorf("its rate is %v", first.GetRate())
	}
	_, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: first.GetSandboxId(), Count: 4})
	f := want(t, err, overQuota)
	if diff := cmp.Diff(map[string]string{"limit": "max_sandboxes", "use": "1", "max": "4", "asked": "4"}, pick(f, "limit", "use", "max", "asked")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := m.vendors["a"].Calls("ForkSandbox"); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	copies, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: first.GetSandboxId(), Count: 2})
	check(t, err)
	snapshot, err := m.CreateSnapshot(ctx, &brokerv1.CreateSnapshotRequest{Sandbox: first.GetSandboxId()})
	check(t, err)
	restored, err := m.RestoreSnapshot(ctx, &brokerv1.RestoreSnapshotRequest{Snapshot: snapshot.GetSnapshotId()})
	check(t, err)
	for what, ask := range map[string]func() error{
		"create": func() error { _, err := m.CreateSandbox(ctx, sized(1)); return err },
		"restore": func() error {
			_, err := m.RestoreSnapshot(ctx, &brokerv1.RestoreSnapshotRequest{Snapshot: snapshot.GetSnapshotId()})
			return err
		},
		"fork": func() error {
			_, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: copies[0].GetSandboxId(), Count: 1})
			return err
		},
	} {
		if f := want(t, ask(), overQuota); f.Metadata["limit"] != "max_sandboxes" {
			t.Errorf("%s: %v", what, f)
		}
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("another provider was asked %d times", n)
	}
	// One that is paused gives its CPUs to others, and has to get them back.
	_, err = m.PauseSandbox(ctx, &brokerv1.PauseSandboxRequest{Sandbox: restored.GetSandboxId()})
	check(t, err)
	_, err = m.DeleteSandbox(ctx, first.GetSandboxId())
	check(t, err)
	m.createFor("acme", sized(1500))
	_, err = m.ResumeSandbox(ctx, restored.GetSandboxId())
	if f := want(t, err, overQuota); f.Metadata["limit"] != "max_cpu_millis" {
		t.Errorf("resume: %v", f)
	}
	_, err = m.DeleteSandbox(ctx, copies[0].GetSandboxId())
	check(t, err)
	_, err = m.ResumeSandbox(ctx, restored.GetSandboxId())
	check(t, err)
}

func pick(f *fault.Error, keys ...string) map[string]string {
	out := make(map[string]string, len(keys))
	for _, k := range keys {
		out[k] = f.Metadata[k]
	}
	return out
}

// TestPace: whoever comes too soon is told when to come again; the tries of one
// request are one, and so is its repetition.
func TestPace(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.tenant("acme", &brokerv1.Limits{MaxCreatesPerMinute: 2})
	m.fails("a", false, full)
	keyed := &brokerv1.CreateSandboxRequest{IdempotencyKey: "k"}
	if sb := m.createFor("acme", keyed); sb.GetProvider() != "b" {
		t.Errorf("it is at %s", sb.GetProvider())
	}
	m.createFor("acme", &brokerv1.CreateSandboxRequest{})
	m.createFor("acme", keyed)
	calls := m.vendors["b"].Calls("CreateSandbox")
	m.clock.add(10 * time.Second)
	_, err := m.CreateSandbox(as(t, "acme"), &brokerv1.CreateSandboxRequest{})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	if f.RetryAfter != 20*time.Second || f.Metadata["tenant"] != "acme" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("the refusal is %+v", f)
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != calls {
		t.Errorf("the provider was asked %d times", n-calls)
	}
	m.clock.add(20 * time.Second)
	m.createFor("acme", &brokerv1.CreateSandboxRequest{})
}

// TestMaxPrice: a provider that is too dear, or of which nobody knows, is ruled
// out, unless that is allowed.
func TestMaxPrice(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a", "b")
	req := sized(500)
	req.MaxPrice = &brokerv1.MaxPrice{Currency: "USD", NanosPerHour: 499_999_999}
	_, err := m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	req.MaxPrice.AllowUnknown = true
	if sb := m.create(req); sb.GetProvider() != "b" {
		t.Errorf("it is at %s", sb.GetProvider())
	}
	req.MaxPrice.NanosPerHour, req.MaxPrice.AllowUnknown = 500_000_000, false
	sb := m.create(req)
	if sb.GetProvider() != "a" || sb.GetRate().GetPrice().GetRunningNanosPerHour() != 500_000_000 {
		t.Errorf("it is at %s for %v", sb.GetProvider(), sb.GetRate())
	}
	place, err := m.ExplainSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	if got := place.GetCandidates()[0].GetPrice().GetRunningNanosPerHour(); got != 500_000_000 {
		t.Errorf("the explanation has the price %d", got)
	}
	req.MaxPrice.NanosPerHour = 0
	_, err = m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	req.MaxPrice = &brokerv1.MaxPrice{Currency: "usd", NanosPerHour: 1}
	_, err = m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
}

// cost asks for costs of all tenants.
func (m *market) cost(req *brokerv1.GetCostRequest) *brokerv1.GetCostResponse {
	m.t.Helper()
	out, err := m.GetCost(as(m.t, authz.AllTenants), req)
	check(m.t, err)
	return out
}

// TestCost: lines add up to the total in every group, also over a restart of the
// broker while sandboxes live, and while others end.
func TestCost(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a", "b")
	m.clock.set(evening)
	m.tenant("acme", nil)
	runs, pauses, elsewhere := m.create(sized(1000)), m.createFor("acme", sized(2000)), sized(4000)
	elsewhere.Provider = "b"
	gone := m.create(elsewhere)
	m.clock.add(3 * time.Hour)
	_, err := m.PauseSandbox(as(t, "acme"), &brokerv1.PauseSandboxRequest{Sandbox: pauses.GetSandboxId()})
	check(t, err)
	_, err = m.DeleteSandbox(t.Context(), gone.GetSandboxId())
	check(t, err)
	m.Close(t.Context())
	m.clock.add(2 * time.Hour)
	m.start()
	const hour = 3_600_000
	usd := func(micros, starts, running, paused, cpuHours int64) *brokerv1.CostPart {
		return &brokerv1.CostPart{
			Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC, Micros: micros, Starts: starts,
			RunningMilliseconds: running * hour, PausedMilliseconds: paused * hour, CpuMicroseconds: cpuHours * hour * 1000,
		}
	}
	unpriced := &brokerv1.CostPart{Starts: 1, RunningMilliseconds: 3 * hour, CpuMicroseconds: 12 * hour * 1000}
	dearRuns, dearPauses := usd(5_000_500, 1, 5, 0, 5), usd(6_000_500+20_000, 1, 3, 2, 6)
	total := &brokerv1.CostLine{Parts: []*brokerv1.CostPart{usd(11_021_000, 2, 8, 2, 11), unpriced}}
	for group, lines := range map[brokerv1.CostGroup][]*brokerv1.CostLine{
		brokerv1.CostGroup_COST_GROUP_UNSPECIFIED: nil,
		brokerv1.CostGroup_COST_GROUP_PROVIDER: {
			{Provider: "a", Parts: []*brokerv1.CostPart{usd(11_021_000, 2, 8, 2, 11)}}, {Provider: "b", Parts: []*brokerv1.CostPart{unpriced}},
		},
		brokerv1.CostGroup_COST_GROUP_TENANT: {
			{Tenant: "acme", Parts: []*brokerv1.CostPart{dearPauses}}, {Tenant: "default", Parts: []*brokerv1.CostPart{dearRuns, unpriced}},
		},
		brokerv1.CostGroup_COST_GROUP_SANDBOX: {
			{Tenant: "acme", Provider: "a", SandboxId: pauses.GetSandboxId(), Parts: []*brokerv1.CostPart{dearPauses}},
			{Tenant: "default", Provider: "a", SandboxId: runs.GetSandboxId(), Parts: []*brokerv1.CostPart{dearRuns}},
			{Tenant: "default", Provider: "b", SandboxId: gone.GetSandboxId(), Parts: []*brokerv1.CostPart{unpriced}},
		},
		brokerv1.CostGroup_COST_GROUP_DAY: {
			{Day: "2026-11-29", Parts: []*brokerv1.CostPart{usd(4_000_500+6_000_500+10_000, 2, 7, 1, 10), unpriced}},
			{Day: "2026-11-30", Parts: []*brokerv1.CostPart{usd(1_000_000+10_000, 0, 1, 1, 1)}},
		},
	} {
		got := m.cost(&brokerv1.GetCostRequest{Group: group})
		wanted := &brokerv1.GetCostResponse{FirstDay: "2026-11-01", LastDay: "2026-11-30", At: got.GetAt(), Lines: lines, Total: total}
		if diff := cmp.Diff(wanted, got, protocmp.Transform()); diff != "" {
			t.Errorf("%v: -want +got:\n%s", group, diff)
		}
	}
	few := m.cost(&brokerv1.GetCostRequest{Group: brokerv1.CostGroup_COST_GROUP_SANDBOX, Limit: 2})
	if n := len(few.GetLines()); n != 2 || few.GetLines()[1].GetOthers() != 2 || len(few.GetLines()[1].GetParts()) != 2 {
		t.Errorf("cut to two lines it is %v", few.GetLines())
	}
	own, err := m.GetCost(as(t, "acme"), &brokerv1.GetCostRequest{FirstDay: "2026-11-30", LastDay: "2026-11-30", Provider: "a"})
	check(t, err)
	if diff := cmp.Diff([]*brokerv1.CostPart{usd(10_000, 0, 0, 1, 0)}, own.GetTotal().GetParts(), protocmp.Transform()); diff != "" {
		t.Errorf("acme's yesterday: -want +got:\n%s", diff)
	}
}

func TestCostOfWhat(t *testing.T) {
	m := newMarket(t, "a")
	m.clock.set(evening)
	for says, req := range map[string]*brokerv1.GetCostRequest{
		`first_day is "yesterday": want a day such as 2026-11-01`:                                      {FirstDay: "yesterday"},
		`last_day is "2026-11-31": want a day such as 2026-11-01`:                                      {LastDay: "2026-11-31"},
		`first_day is "2026-12-01": want a day not after the last one, 2026-11-29`:                     {FirstDay: "2026-12-01"},
		`first_day is "2026-01-01": want 2026-08-29 or later: by sandbox, costs are known for 92 days`: {FirstDay: "2026-01-01", Group: brokerv1.CostGroup_COST_GROUP_SANDBOX},
		`limit is "1001": want 1 to 1000, or 0 for all of them`:                                        {Limit: 1001},
		`group is "9": want TENANT, PROVIDER, SANDBOX, DAY or none`:                                    {Group: 9},
	} {
		_, err := m.GetCost(t.Context(), req)
		if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID); f.Message != says {
			t.Errorf("got  %s\nwant %s", f.Message, says)
		}
	}
	got, err := m.GetCost(t.Context(), &brokerv1.GetCostRequest{LastDay: "2026-02-10"})
	check(t, err)
	if got.GetFirstDay() != "2026-02-01" || len(got.GetTotal().GetParts()) != 0 {
		t.Errorf("a month of nothing is %v", got)
	}
}

// TestLateDiscovery: a sandbox of which it was not known whether it was made is
// counted since it was, and one from before the broker counted since it does.
func TestLateDiscovery(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a")
	m.vendors["a"].SetHook(func(_ context.Context, method string, after bool) error {
		if method == "CreateSandbox" && after || method == "GetSandbox" || method == "Recover" || method == "ListSandboxes" {
			return cut
		}
		return nil
	})
	_, err := m.CreateSandbox(t.Context(), sized(1000))
	id := fault.From(err).Metadata["sandbox_id"]
	if n := len(m.cost(&brokerv1.GetCostRequest{}).GetTotal().GetParts()); n != 0 {
		t.Errorf("there are %d parts of what may not be there", n)
	}
	m.clock.add(time.Hour)
	m.vendors["a"].SetHook(nil)
	_, err = m.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: id, Refresh: true})
	check(t, err)
	sb, err := m.store.Sandbox(t.Context(), id)
	check(t, err)
	made := m.vendors["a"].Sandboxes()[id].GetCreatedAt().AsTime()
	if !sb.Meter.Since.Equal(made) {
		t.Errorf("it is counted since %v, and was made at %v", sb.Meter.Since, made)
	}

	// As a broker left it that knew no rates.
	sb.Meter, sb.Body.Rate = state.Sandbox{}.Meter, nil
	check(t, m.store.UpdateSandbox(t.Context(), sb))
	m.Close(t.Context())
	m.start()
	_, err = m.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: id, Refresh: true})
	check(t, err)
	sb, err = m.store.Sandbox(t.Context(), id)
	check(t, err)
	if !sb.Meter.Since.Equal(m.clock.Now()) || sb.Body.GetRate().GetPrice().GetStartMicros() != 0 || sb.Body.GetRate().GetCpuMillis() != 1000 {
		t.Errorf("it is counted since %v by %v", sb.Meter.Since, sb.Body.GetRate())
	}
}
