package metering_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/metering"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// noon is in the middle of a day.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

var rate = &brokerv1.Rate{
	CpuMillis: 500, MemoryBytes: 1 << 30, DiskBytes: 2 << 30,
	Price: &brokerv1.Price{Currency: "USD", RunningNanosPerHour: 60_000_000, PausedNanosPerHour: 6_000_000, StartMicros: 7},
}

// TestLife follows one sandbox that runs over midnight, is paused, and ends.
func TestLife(t *testing.T) {
	today := metering.DayOf(noon)
	m, pieces := metering.Meter{}.Step(metering.Running, noon, rate)
	want := []metering.Piece{{Day: today, Use: metering.Use{Starts: 1, Micros: 7}}}
	if diff := cmp.Diff(want, pieces); diff != "" {
		t.Errorf("start: -want +got:\n%s", diff)
	}
	if same, pieces := m.Step(metering.Running, noon.Add(time.Hour), rate); same != m || pieces != nil {
		t.Errorf("what changes nothing made %v and %v", same, pieces)
	}
	m, pieces = m.Step(metering.Paused, noon.Add(13*time.Hour), rate)
	const hour = 3_600_000
	want = []metering.Piece{
		{Day: today, Use: metering.Use{
			RunningMillis: 12 * hour, CPUMicros: 6 * hour * 1000, MemoryMiBMillis: 12 * hour * 1024, DiskMiBMillis: 24 * hour * 1024, Micros: 720_000,
		}},
		{Day: today + 1, Use: metering.Use{
			RunningMillis: hour, CPUMicros: hour * 500, MemoryMiBMillis: hour * 1024, DiskMiBMillis: 2 * hour * 1024, Micros: 60_000,
		}},
	}
	if diff := cmp.Diff(want, pieces); diff != "" {
		t.Errorf("running: -want +got:\n%s", diff)
	}
	m, pieces = m.Step(metering.Stopped, noon.Add(15*time.Hour), rate)
	want = []metering.Piece{{Day: today + 1, Use: metering.Use{PausedMillis: 2 * hour, DiskMiBMillis: 4 * hour * 1024, Micros: 12_000}}}
	if diff := cmp.Diff(want, pieces); diff != "" {
		t.Errorf("paused: -want +got:\n%s", diff)
	}
	if got := m.Until(noon.Add(99*time.Hour), rate); got != nil {
		t.Errorf("after its end it used %v", got)
	}
	if _, pieces = m.Step(metering.Running, noon.Add(16*time.Hour), rate); pieces != nil {
		t.Errorf("it started twice: %v", pieces)
	}
}

// TestClockGoesBack: nothing becomes negative.
func TestClockGoesBack(t *testing.T) {
	m, _ := metering.Meter{}.Step(metering.Running, noon, rate)
	next, pieces := m.Step(metering.Paused, noon.Add(-time.Hour), rate)
	if len(pieces) != 0 || !next.Since.Equal(noon) {
		t.Errorf("got %v since %v", pieces, next.Since)
	}
}

func TestPhaseOf(t *testing.T) {
	st := func(state providerv1.SandboxState) lifecycle.Status { return lifecycle.Status{State: state} }
	for _, tc := range []struct {
		status lifecycle.Status
		before metering.Phase
		want   metering.Phase
	}{
		{lifecycle.New(), metering.Stopped, metering.Stopped},
		{st(providerv1.SandboxState_SANDBOX_STATE_RUNNING), metering.Stopped, metering.Running},
		{st(providerv1.SandboxState_SANDBOX_STATE_PAUSING), metering.Running, metering.Running},
		{st(providerv1.SandboxState_SANDBOX_STATE_PAUSED), metering.Running, metering.Paused},
		{st(providerv1.SandboxState_SANDBOX_STATE_RESUMING), metering.Paused, metering.Paused},
		{st(providerv1.SandboxState_SANDBOX_STATE_UNKNOWN), metering.Running, metering.Running},
		{st(providerv1.SandboxState_SANDBOX_STATE_UNKNOWN), metering.Stopped, metering.Stopped},
		{st(providerv1.SandboxState_SANDBOX_STATE_DELETING), metering.Running, metering.Running},
		{st(providerv1.SandboxState_SANDBOX_STATE_FAILED), metering.Running, metering.Stopped},
		{lifecycle.Status{State: providerv1.SandboxState_SANDBOX_STATE_DELETING, Gone: true}, metering.Paused, metering.Stopped},
	} {
		if got := metering.PhaseOf(tc.before, tc.status); got != tc.want {
			t.Errorf("%s after %d is counted as %d, want %d", lifecycle.Name(tc.status.State), tc.before, got, tc.want)
		}
	}
}

func TestDays(t *testing.T) {
	for text, parts := range map[string][2]string{
		"2026-11-29": {"2026-11-01", "2026-12-01"}, "2026-12-31": {"2026-12-01", "2027-01-01"}, "1969-12-31": {"1969-12-01", "1970-01-01"},
	} {
		day, err := metering.ParseDay(text)
		if err != nil || day.String() != text || metering.DayOf(day.Start()) != day || metering.DayOf((day+1).Start().Add(-1)) != day {
			t.Errorf("%s is %v, %v", text, day, err)
		}
		if got := [2]string{day.Month().String(), day.NextMonth().String()}; got != parts {
			t.Errorf("the month of %s is %v, want %v", text, got, parts)
		}
	}
	if _, err := metering.ParseDay("29.11.2026"); err == nil {
		t.Error("29.11.2026 is a day")
	}
}

// TestPiecesAddUp: however a stretch of time is cut by days and by questions, its
// pieces add up to the whole, and none is negative.
func TestPiecesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &brokerv1.Rate{
			CpuMillis: rapid.Int64Range(0, 64_000).Draw(t, "cpu"), MemoryBytes: rapid.Int64Range(0, 1<<40).Draw(t, "memory"),
			DiskBytes: rapid.Int64Range(0, 1<<42).Draw(t, "disk"),
			Price:     &brokerv1.Price{RunningNanosPerHour: rapid.Int64Range(0, 1<<50).Draw(t, "running"), PausedNanosPerHour: rapid.Int64Range(0, 1<<50).Draw(t, "paused")},
		}
		m := metering.Meter{Phase: rapid.SampledFrom([]metering.Phase{metering.Running, metering.Paused}).Draw(t, "phase"), Since: noon}
		length := time.Duration(rapid.Int64Range(1, int64(100*24*time.Hour)).Draw(t, "length"))
		whole := m.Until(noon.Add(length), r)
		var sum metering.Use
		for i, p := range whole {
			sum = sum.Plus(p.Use)
			if p.Day != metering.DayOf(noon)+metering.Day(i) {
				t.Fatalf("piece %d is of %v", i, p.Day)
			}
			for _, n := range []int64{p.RunningMillis, p.PausedMillis, p.CPUMicros, p.MemoryMiBMillis, p.DiskMiBMillis, p.Micros} {
				if n < 0 {
					t.Fatalf("piece %d is negative: %+v", i, p)
				}
			}
		}
		price := r.GetPrice().GetRunningNanosPerHour()
		if m.Phase == metering.Paused {
			price = r.GetPrice().GetPausedNanosPerHour()
		}
		// The whole by another way: in hours, as far as a float64 can tell.
		cost := float64(price) * length.Hours() / 1000
		if diff := float64(sum.Micros) - cost; diff > 1+cost/1e9 || diff < -1-cost/1e9 {
			t.Fatalf("%v cost %d, want about %f", length, sum.Micros, cost)
		}
		// A question on the way sees what the end will have of the days before it.
		half := m.Until(noon.Add(length/2), r)
		if n := len(half); n > 1 && !slices.Equal(half[:n-1], whole[:n-1]) {
			t.Fatalf("days that are over changed: %v and %v", half, whole)
		}
	})
}
