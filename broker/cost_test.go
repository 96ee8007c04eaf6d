package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

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
