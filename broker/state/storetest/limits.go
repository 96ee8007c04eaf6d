package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	overQuota   = providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED
	rateLimited = providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED
)

// limited makes the tenant acme with limits.
func limited(t *testing.T, s state.Store, l *brokerv1.Limits) {
	t.Helper()
	check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme", Limits: l}))
}

// admitted makes a sandbox ask its tenant's limits, with so much CPU and memory.
func admitted(at time.Time, cpu, memory int64) func(*state.Sandbox) {
	return func(sb *state.Sandbox) {
		sb.Body.Rate = &brokerv1.Rate{CpuMillis: cpu, MemoryBytes: memory}
		sb.Admission = &quota.Demand{At: at, New: true, Rate: sb.Body.GetRate()}
	}
}

// refused wants a refusal for a limit. It returns what that says of it, and when to
// come again.
func refused(t *testing.T, err error, reason providerv1.ErrorReason, limit string) (says map[string]string, again time.Duration) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != reason || f.Metadata["limit"] != limit || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Fatalf("error is %v (%+v), want %v for %s", err, f, reason, limit)
	}
	return f.Metadata, f.RetryAfter
}

// quotas: what a tenant has bounds what it gets, a group of copies as one.
func quotas(t *testing.T, s state.Store) {
	limited(t, s, &brokerv1.Limits{MaxSandboxes: 4, MaxCpuMillis: 3000, MaxMemoryBytes: 1 << 30})
	insert := func(cpu, memory int64, ids ...int) error {
		var all []*state.Sandbox
		for _, n := range ids {
			all = append(all, sandbox(n, of("acme"), admitted(start, cpu, memory)))
		}
		return s.InsertSandboxes(t.Context(), nil, all...)
	}
	check(t, insert(1000, 1, 1, 2))
	says, _ := refused(t, insert(100, 1, 3, 4, 5), overQuota, "max_sandboxes")
	want := map[string]string{"tenant": "acme", "limit": "max_sandboxes", "max": "4", "use": "2", "asked": "3", "remedy": says["remedy"]}
	if diff := cmp.Diff(want, says); diff != "" || want["remedy"] == "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	refused(t, insert(1001, 1, 3), overQuota, "max_cpu_millis")
	refused(t, insert(100, 1<<30, 3), overQuota, "max_memory_bytes")
	if err := insert(0, 1, 3); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
		t.Errorf("one that does not say how many CPUs: %v", err)
	}
	check(t, insert(1000, 1, 3))
	refused(t, insert(1, 1, 4), overQuota, "max_cpu_millis")

	// One that is paused frees its CPUs, but not its place; to resume takes them.
	sb, err := s.Sandbox(t.Context(), "sbx_001")
	check(t, err)
	sb.Status.State = paused
	check(t, s.UpdateSandbox(t.Context(), sb))
	check(t, insert(500, 1, 4))
	refused(t, insert(1, 1, 5), overQuota, "max_sandboxes")
	sb.Status.State = providerv1.SandboxState_SANDBOX_STATE_RESUMING
	sb.Admission = &quota.Demand{At: start, Rate: sb.Body.GetRate()}
	refused(t, s.UpdateSandbox(t.Context(), sb), overQuota, "max_cpu_millis")
	if got, err := s.Sandbox(t.Context(), "sbx_001"); err != nil || got.Status.State != paused || got.Version != sb.Version {
		t.Errorf("after the refusal it is %+v, %v", got, err)
	}
	remove(t, s, "sbx_004")
	check(t, s.UpdateSandbox(t.Context(), sb))
	if sb.Admission != nil {
		t.Error("what was admitted would be asked again")
	}

	use, err := s.TenantUse(t.Context(), "acme", start)
	check(t, err)
	if diff := cmp.Diff(quota.Use{Sandboxes: 3, CPUMillis: 3000, MemoryBytes: 3}, use); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// Other tenants have other limits, or none; what asks for no admission is let in.
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(7, admitted(start, 9000, 0)), sandbox(8, admitted(start, 9000, 0))))
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(9, of("acme"))))
	want404 := s.InsertSandboxes(t.Context(), nil, sandbox(10, of("nobody"), admitted(start, 1, 1)))
	if !errors.Is(want404, state.ErrNoTenant) {
		t.Errorf("of no tenant: %v", want404)
	}
}

// lastPlace: of many who want the last places at the same moment, so many get one
// as there are, copies all or none.
func lastPlace(t *testing.T, s state.Store) {
	const places, callers, copies = 7, 16, 2
	limited(t, s, &brokerv1.Limits{MaxSandboxes: places})
	errs := together(callers, func(i int) error {
		first := sandbox(100+copies*i, of("acme"), admitted(start, 1, 1))
		second := sandbox(101+copies*i, of("acme"), admitted(start, 1, 1))
		return s.InsertSandboxes(t.Context(), nil, first, second)
	})
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		refused(t, err, overQuota, "max_sandboxes")
	}
	if want := places / copies; won != want {
		t.Errorf("%d callers got places, want %d", won, want)
	}
	if got := walk(t, s, state.Filter{Tenant: "acme"}, 5); len(got) != won*copies {
		t.Errorf("there are %v", got)
	}
}

// pace: so many at once, and then one for each share of a minute, whoever asks.
func pace(t *testing.T, s state.Store) {
	const perMinute, callers = 6, 16
	limited(t, s, &brokerv1.Limits{MaxCreatesPerMinute: perMinute})
	id := 0
	ask := func(at time.Duration, n int, change ...func(*state.Sandbox)) error {
		var all []*state.Sandbox
		for range n {
			id++
			all = append(all, sandbox(id, append([]func(*state.Sandbox){of("acme"), admitted(start.Add(at), 1, 1)}, change...)...))
		}
		return s.InsertSandboxes(t.Context(), nil, all...)
	}
	refused(t, ask(0, perMinute+1), overQuota, "max_creates_per_minute")
	errs := together(callers, func(i int) error {
		return s.InsertSandboxes(t.Context(), nil, sandbox(100+i, of("acme"), admitted(start, 1, 1)))
	})
	late := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(late) != callers-perMinute {
		t.Errorf("%d of %d had to wait, want %d", len(late), callers, callers-perMinute)
	}
	for _, err := range late {
		if _, again := refused(t, err, rateLimited, "max_creates_per_minute"); again != 10*time.Second {
			t.Errorf("retry after %v, want 10s", again)
		}
	}
	if _, again := refused(t, ask(4*time.Second, 1), rateLimited, "max_creates_per_minute"); again != 6*time.Second {
		t.Errorf("retry after %v, want 6s", again)
	}
	// The same request at another provider is counted already.
	check(t, ask(4*time.Second, 1, func(sb *state.Sandbox) { sb.Admission.Again = true }))
	check(t, ask(10*time.Second, 1))
	refused(t, ask(10*time.Second, 1), rateLimited, "max_creates_per_minute")
	check(t, ask(40*time.Second, 3))
	refused(t, ask(40*time.Second, 1), rateLimited, "max_creates_per_minute")
	check(t, ask(10*time.Minute, perMinute))
}

// budgets: what was used this day and this month is all that counts, stored or not.
func budgets(t *testing.T, s state.Store) {
	limited(t, s, &brokerv1.Limits{
		Daily:        &brokerv1.Budget{MoneyMicros: 1_000_000, Currency: "USD"},
		Monthly:      &brokerv1.Budget{CpuSeconds: 3 * 3600, MoneyMicros: 100_000_000, Currency: "USD"},
		UnknownPrice: brokerv1.UnknownPrice_UNKNOWN_PRICE_REFUSE,
	})
	rate := &brokerv1.Rate{CpuMillis: 1000, Price: &brokerv1.Price{Currency: "USD", RunningNanosPerHour: 500_000_000}}
	ask := func(n int, at time.Time, r *brokerv1.Rate) error {
		return s.InsertSandboxes(t.Context(), nil, sandbox(n, of("acme"), func(sb *state.Sandbox) {
			sb.Body.Rate, sb.Admission = r, &quota.Demand{At: at, New: true, Rate: r}
		}))
	}
	noon := metering.DayOf(start).Start().Add(12 * time.Hour)
	check(t, ask(1, noon, rate))
	refused(t, ask(2, noon, &brokerv1.Rate{CpuMillis: 1000}), overQuota, "unknown_price")
	euros := &brokerv1.Rate{CpuMillis: 1000, Price: &brokerv1.Price{Currency: "EUR"}}
	refused(t, ask(2, noon, euros), overQuota, "unknown_price")
	sb := read(t, s, 1)
	step(t, s, sb, metering.Running, noon)
	check(t, ask(2, noon.Add(time.Hour), rate))
	says, _ := refused(t, ask(3, noon.Add(2*time.Hour), rate), overQuota, "daily.money_micros")
	if says["use"] != "1.00 USD" || says["max"] != "1.00 USD" || says["until"] != "2027-01-16T00:00:00Z" {
		t.Errorf("the refusal says %v", says)
	}
	step(t, s, sb, metering.Paused, noon.Add(2*time.Hour))
	refused(t, ask(3, noon.Add(11*time.Hour), rate), overQuota, "daily.money_micros")
	check(t, ask(3, noon.Add(12*time.Hour), rate)) // it is another day
	step(t, s, sb, metering.Running, noon.Add(13*time.Hour))
	refused(t, ask(4, noon.Add(14*time.Hour), rate), overQuota, "monthly.cpu_seconds")
	step(t, s, sb, metering.Stopped, noon.Add(14*time.Hour))
	sb = read(t, s, 2)
	sb.Admission = &quota.Demand{At: noon.Add(15 * time.Hour), Rate: rate}
	refused(t, s.UpdateSandbox(t.Context(), sb), overQuota, "monthly.cpu_seconds")
	check(t, ask(4, metering.DayOf(noon).NextMonth().Start(), rate))
}

// reservation: of many who want what is left of a budget at the same moment, so many
// get it as it lasts for; what ends gives back what was kept for it.
func reservation(t *testing.T, s state.Store) {
	const lastsFor, callers, copies = 6, 16, 2
	limited(t, s, &brokerv1.Limits{Daily: &brokerv1.Budget{MoneyMicros: lastsFor*2000 + 1999, Currency: "USD"}})
	// A thousandth for the start, and one for a minute.
	rate := &brokerv1.Rate{Price: &brokerv1.Price{Currency: "USD", RunningNanosPerHour: 60_000_000, StartMicros: 1000}}
	noon := metering.DayOf(start).Start().Add(12 * time.Hour)
	making := func(n int) *state.Sandbox {
		return sandbox(n, of("acme"), func(sb *state.Sandbox) {
			sb.Status = lifecycle.New()
			sb.Body.Rate, sb.Admission = rate, &quota.Demand{At: noon, New: true, Rate: rate}
		})
	}
	errs := together(callers, func(i int) error {
		return s.InsertSandboxes(t.Context(), nil, making(100+copies*i), making(101+copies*i))
	})
	won := -1
	for i, err := range errs {
		if err != nil {
			refused(t, err, overQuota, "daily.money_micros")
			continue
		}
		won = i
	}
	if got := walk(t, s, state.Filter{Tenant: "acme"}, 5); len(got) != lastsFor {
		t.Fatalf("there are %v, want %d", got, lastsFor)
	}
	says, _ := refused(t, s.InsertSandboxes(t.Context(), nil, making(1)), overQuota, "daily.money_micros")
	if says["use"] != "0.00 USD" || says["held"] != "0.012 USD" || says["asked"] != "0.002 USD" || says["max"] != "0.013999 USD" {
		t.Errorf("the refusal says %v", says)
	}
	// One runs: its start is spent, and no longer held.
	runs, never := read(t, s, 100+copies*won), read(t, s, 101+copies*won)
	step(t, s, runs, metering.Running, noon)
	use, err := s.TenantUse(t.Context(), "acme", noon)
	check(t, err)
	if spent, held := use.Used.Day.Money["USD"], use.Held.Day.Money["USD"]; spent != 1000 || held != lastsFor*2000-1000 {
		t.Errorf("%d is spent and %d held, want 1000 and %d", spent, held, lastsFor*2000-1000)
	}
	refused(t, s.InsertSandboxes(t.Context(), nil, making(1)), overQuota, "daily.money_micros")
	// One was not made after all: it frees what was kept for it, as does the minute of one that ends.
	check(t, s.RemoveSandbox(t.Context(), never))
	check(t, s.InsertSandboxes(t.Context(), nil, making(1)))
	refused(t, s.InsertSandboxes(t.Context(), nil, making(2)), overQuota, "daily.money_micros")
	step(t, s, runs, metering.Stopped, noon)
	check(t, s.InsertSandboxes(t.Context(), nil, making(2)))
}

// tenantUpdate: a tenant is changed as a whole, or not.
func tenantUpdate(t *testing.T, s state.Store) {
	limited(t, s, nil)
	_, err := s.UpdateTenant(t.Context(), "nobody", func(*brokerv1.Tenant) error { return nil })
	want(t, err, state.ErrNotFound)
	_, err = s.UpdateTenant(t.Context(), "acme", func(tn *brokerv1.Tenant) error {
		tn.Description = "refused"
		return state.ErrBadToken
	})
	want(t, err, state.ErrBadToken)
	expect := func(wanted ...string) {
		t.Helper()
		got, err := s.EnforcedTenants(t.Context())
		check(t, err)
		var names []string
		for _, tn := range got {
			names = append(names, tn.GetName())
		}
		if diff := cmp.Diff(wanted, names); diff != "" {
			t.Errorf("enforced: -want +got:\n%s", diff)
		}
	}
	expect()
	const writers = 8
	for i, err := range together(writers, func(int) error {
		_, err := s.UpdateTenant(t.Context(), "acme", func(tn *brokerv1.Tenant) error {
			if tn.GetLimits() == nil {
				tn.Limits = &brokerv1.Limits{}
			}
			tn.Limits.MaxSandboxes++
			tn.Limits.WhenSpent = brokerv1.WhenSpent_WHEN_SPENT_PAUSE
			return nil
		})
		return err
	}) {
		if err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	expect()
	got, err := s.UpdateTenant(t.Context(), "acme", func(tn *brokerv1.Tenant) error {
		tn.Limits.Daily = &brokerv1.Budget{CpuSeconds: 1}
		return nil
	})
	check(t, err)
	wanted := &brokerv1.Tenant{Name: "acme", Limits: &brokerv1.Limits{
		MaxSandboxes: writers, WhenSpent: brokerv1.WhenSpent_WHEN_SPENT_PAUSE, Daily: &brokerv1.Budget{CpuSeconds: 1},
	}}
	if diff := cmp.Diff(wanted, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	expect("acme")
	stored, err := s.Tenant(t.Context(), "acme")
	check(t, err)
	if diff := cmp.Diff(got, stored, protocmp.Transform()); diff != "" {
		t.Errorf("stored: -want +got:\n%s", diff)
	}
}
