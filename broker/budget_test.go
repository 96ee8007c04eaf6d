package broker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

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
