package storetest

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

func read(t *testing.T, s state.Store, n int) *state.Sandbox {
	t.Helper()
	sb, err := s.Sandbox(t.Context(), fmt.Sprintf("sbx_%03d", n))
	check(t, err)
	return sb
}

// step makes a sandbox be counted as something else, and stores that.
func step(t *testing.T, s state.Store, sb *state.Sandbox, next metering.Phase, at time.Time) {
	t.Helper()
	sb.Meter, sb.Used = sb.Meter.Step(next, at, sb.Body.GetRate())
	switch next {
	case metering.Running:
		sb.Status.State = running
	case metering.Paused:
		sb.Status.State = paused
	case metering.Stopped:
		sb.Status.Gone, sb.GoneAt = true, at
	}
	check(t, s.UpdateSandbox(t.Context(), sb))
	if sb.Used != nil {
		t.Error("what is stored would be stored again")
	}
}

// usedBy returns what was used, in all, by what the key says.
func usedBy(t *testing.T, s state.Store, f state.UseFilter, at time.Time, key func(state.Used) string) map[string]metering.Use {
	t.Helper()
	rows, err := s.Used(t.Context(), f, at)
	check(t, err)
	out := make(map[string]metering.Use)
	for _, u := range rows {
		out[key(u)] = out[key(u)].Plus(u.Use)
	}
	return out
}

const hour = 3_600_000 // milliseconds

// used: what was used is stored with the change that ended it, and with no other.
func used(t *testing.T, s state.Store) {
	check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
	day := metering.DayOf(start)
	noon := day.Start().Add(12 * time.Hour)
	priced := func(sb *state.Sandbox) {
		sb.Body.Rate = &brokerv1.Rate{CpuMillis: 2000, Price: &brokerv1.Price{
			Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC, RunningNanosPerHour: 1_000_000_000, StartMicros: 5,
		}}
		sb.Body.Name = "n"
	}
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(1, priced), sandbox(2, of("acme"), func(sb *state.Sandbox) { sb.Body.Provider = "q" })))
	all := state.UseFilter{First: day - 9, Last: day + 9}
	if rows, err := s.Used(t.Context(), all, noon); err != nil || len(rows) != 0 {
		t.Errorf("before anything ran, %v, %v", rows, err)
	}
	first, second := read(t, s, 1), read(t, s, 2)
	step(t, s, first, metering.Running, noon)
	step(t, s, second, metering.Running, noon)

	// What conflicts is not counted.
	stale := first.Clone()
	stale.Version--
	stale.Used = []metering.Piece{{Day: day, Use: metering.Use{Micros: 1_000_000}}}
	want(t, s.UpdateSandbox(t.Context(), stale), state.ErrConflict)
	if got := read(t, s, 1).Meter; got != first.Meter {
		t.Errorf("the meter is %v, want %v", got, first.Meter)
	}
	// The rest of it is not known yet, and is known when it is over.
	until := noon.Add(13 * time.Hour)
	expect := func(what string, wanted, got map[string]metering.Use) {
		t.Helper()
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	for _, over := range []bool{false, true} {
		at := until
		if over {
			step(t, s, first, metering.Stopped, until)
			step(t, s, second, metering.Paused, until)
			at = at.Add(time.Hour) // the second one is paused from then on
		}
		more := metering.Use{PausedMillis: at.Sub(until).Milliseconds()}
		byDay := func(u state.Used) string { return u.Day.String() }
		expect("by day", map[string]metering.Use{
			"2027-01-15": {RunningMillis: 12 * hour, CPUMicros: 24 * hour * 1000, Starts: 1, Micros: 12_000_005},
			"2027-01-16": {RunningMillis: hour, CPUMicros: 2 * hour * 1000, Micros: 1_000_000},
		}, usedBy(t, s, state.UseFilter{Tenant: "default", First: day, Last: day + 1}, at, byDay))
		expect("a day alone", map[string]metering.Use{
			"2027-01-16": {RunningMillis: hour, CPUMicros: 2 * hour * 1000, Micros: 1_000_000},
		}, usedBy(t, s, state.UseFilter{Provider: "p", First: day + 1, Last: day + 1, BySandbox: true}, at, byDay))
		for _, bySandbox := range []bool{false, true} {
			f := all
			f.BySandbox = bySandbox
			name := func(id, name string) string {
				if !bySandbox {
					id, name = "", ""
				}
				return fmt.Sprintf("%q %q", id, name)
			}
			whole := map[string]metering.Use{
				"default p " + name("sbx_001", "n") + ` "USD" 1`: {RunningMillis: 13 * hour, CPUMicros: 26 * hour * 1000, Starts: 1, Micros: 13_000_005},
				"acme q " + name("sbx_002", "") + ` "" 0`:        metering.Use{RunningMillis: 13 * hour, Starts: 1}.Plus(more),
			}
			expect("all", whole, usedBy(t, s, f, at, func(u state.Used) string {
				return fmt.Sprintf("%s %s %q %q %q %d", u.Tenant, u.Provider, u.SandboxID, u.Name, u.Currency, u.Basis)
			}))
		}
	}

	usedEnds(t, s, second, until, expect)
}

// usedEnds: by sandbox it is forgotten, by day it is not; but a tenant takes its use
// along.
func usedEnds(t *testing.T, s state.Store, second *state.Sandbox, until time.Time, expect func(what string, wanted, got map[string]metering.Use)) {
	day := metering.DayOf(start)
	check(t, s.PurgeGone(t.Context(), until.Add(24*time.Hour)))
	check(t, s.PurgeUsed(t.Context(), day+1))
	nothing := func(state.Used) string { return "" }
	bySandbox := state.UseFilter{Tenant: "default", First: day - 9, Last: day + 9, BySandbox: true}
	expect("after a purge", map[string]metering.Use{"": {RunningMillis: hour, CPUMicros: 2 * hour * 1000, Micros: 1_000_000}},
		usedBy(t, s, bySandbox, until, nothing))
	expect("by day after a purge", map[string]metering.Use{"": {RunningMillis: 13 * hour, CPUMicros: 26 * hour * 1000, Starts: 1, Micros: 13_000_005}},
		usedBy(t, s, state.UseFilter{Tenant: "default", First: day, Last: day + 9}, until, nothing))
	step(t, s, second, metering.Stopped, until)
	check(t, s.RemoveTenant(t.Context(), "acme"))
	for _, by := range []bool{false, true} {
		expect("a tenant that is gone", map[string]metering.Use{}, usedBy(t, s, state.UseFilter{Tenant: "acme", First: day, Last: day + 9, BySandbox: by}, until, nothing))
	}
}

// usedSteps bounds one random life of two tenants.
const usedSteps = 30

// usedAddsUp: over random lives, and whenever somebody asks, what sandboxes used
// adds up to what was used by day, and that to what they must have used.
func usedAddsUp(t *testing.T, s state.Store) {
	made, round := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		tenants := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		for _, name := range tenants {
			check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: name}))
		}
		now := start
		var all []*state.Sandbox
		exact, roundings := new(big.Int), int64(0)
		for range rapid.IntRange(1, usedSteps).Draw(rt, "steps") {
			length := time.Duration(rapid.Int64Range(0, int64(60*time.Hour)).Draw(rt, "time"))
			now = now.Add(length)
			for _, sb := range all {
				exact.Add(exact, costOf(sb, length))
			}
			if len(all) == 0 || rapid.IntRange(0, 3).Draw(rt, "new") == 0 {
				made++
				sb := spender(rt, made, tenants)
				check(t, s.InsertSandboxes(t.Context(), nil, sb))
				all = append(all, sb)
				continue
			}
			sb := all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
			next := rapid.SampledFrom([]metering.Phase{metering.Running, metering.Running, metering.Paused, metering.Stopped}).Draw(rt, "phase")
			if sb.Status.Gone || next == sb.Meter.Phase {
				continue
			}
			roundings++
			step(t, s, sb, next, now)
		}
		sum := func(bySandbox bool, providers ...string) (out metering.Use) {
			for _, tenant := range tenants {
				for _, provider := range providers {
					f := state.UseFilter{Tenant: tenant, Provider: provider, First: metering.DayOf(start), Last: metering.DayOf(now), BySandbox: bySandbox}
					out = out.Plus(usedBy(t, s, f, now, func(state.Used) string { return "" })[""])
				}
			}
			return out
		}
		whole := sum(false, "")
		for how, got := range map[string]metering.Use{"by sandbox": sum(true, ""), "by provider": sum(false, "p", "q"), "by both": sum(true, "p", "q")} {
			if got != whole {
				rt.Fatalf("%s %+v, in all %+v", how, got, whole)
			}
		}
		wanted := exact.Div(exact, big.NewInt(1000*int64(time.Hour))).Int64()
		if off := whole.Micros - wanted; max(off, -off) > roundings+int64(len(all))+1 {
			rt.Fatalf("it cost %d, want %d but for %d roundings", whole.Micros, wanted, roundings+int64(len(all)))
		}
	})
}

// spender makes a sandbox of a random rate.
func spender(rt *rapid.T, n int, tenants []string) *state.Sandbox {
	return sandbox(n, func(sb *state.Sandbox) {
		sb.Body.Tenant = rapid.SampledFrom(tenants).Draw(rt, "tenant")
		sb.Body.Provider = rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "provider")
		sb.Body.Rate = &brokerv1.Rate{CpuMillis: rapid.Int64Range(0, 4000).Draw(rt, "cpu"), DiskBytes: rapid.Int64Range(0, 1<<40).Draw(rt, "disk")}
		if rapid.Bool().Draw(rt, "priced") {
			sb.Body.Rate.Price = &brokerv1.Price{
				Currency: "USD", RunningNanosPerHour: rapid.Int64Range(0, 1e12).Draw(rt, "running"), PausedNanosPerHour: rapid.Int64Range(0, 1e9).Draw(rt, "paused"),
			}
		}
	})
}

// costOf is what so long a time costs, in billionths for an hour times nanoseconds.
func costOf(sb *state.Sandbox, length time.Duration) *big.Int {
	perHour := int64(0)
	switch price := sb.Body.GetRate().GetPrice(); sb.Meter.Phase {
	case metering.Running:
		perHour = price.GetRunningNanosPerHour()
	case metering.Paused:
		perHour = price.GetPausedNanosPerHour()
	case metering.Stopped:
	}
	return new(big.Int).Mul(big.NewInt(perHour), big.NewInt(int64(length)))
}
