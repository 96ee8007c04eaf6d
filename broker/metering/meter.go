package metering

import (
	"time"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Phase is what a sandbox is counted as. The numbers are stored; they never
// change.
type Phase int

// The phases.
const (
	Stopped Phase = 0
	Running Phase = 1
	Paused  Phase = 2
)

// PhaseOf returns what a sandbox is counted as that was counted as before. While
// it is on the way to a state, or nobody knows which it is in, it is counted as
// what it was last known to be: that is what its provider charges for until it is
// told otherwise.
func PhaseOf(before Phase, st lifecycle.Status) Phase {
	if st.Gone {
		return Stopped
	}
	switch st.State {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		return Running
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		return Paused
	case providerv1.SandboxState_SANDBOX_STATE_FAILED:
		return Stopped
	default:
		return before
	}
}

// Meter is what a sandbox is counted as, and since when. The zero value is one
// that never ran.
type Meter struct {
	Phase Phase
	Since time.Time
}

// Use is what was used. CPU, memory and disk are what the rate says, which is what
// was requested.
type Use struct {
	RunningMillis, PausedMillis int64
	// CPUMicros are microseconds of one CPU, while it ran.
	CPUMicros int64
	// MemoryMiBMillis are milliseconds of one MiB, while it ran; DiskMiBMillis also
	// while it was paused.
	MemoryMiBMillis, DiskMiBMillis int64
	// Starts is 1 on the day a sandbox began to run.
	Starts int64
	// Micros are millionths of a unit of the currency of the rate's price; 0 if that
	// is unknown.
	Micros int64
}

// Plus returns the sum.
func (u Use) Plus(v Use) Use {
	u.RunningMillis += v.RunningMillis
	u.PausedMillis += v.PausedMillis
	u.CPUMicros += v.CPUMicros
	u.MemoryMiBMillis += v.MemoryMiBMillis
	u.DiskMiBMillis += v.DiskMiBMillis
	u.Starts += v.Starts
	u.Micros += v.Micros
	return u
}

func (u Use) minus(v Use) Use {
	u.RunningMillis -= v.RunningMillis
	u.PausedMillis -= v.PausedMillis
	u.CPUMicros -= v.CPUMicros
	u.MemoryMiBMillis -= v.MemoryMiBMillis
	u.DiskMiBMillis -= v.DiskMiBMillis
	u.Starts -= v.Starts
	u.Micros -= v.Micros
	return u
}

// Piece is what one sandbox used on one day.
type Piece struct {
	Day Day
	Use
}

// Step returns the meter of a sandbox that is counted as next from at on, and what
// it used since the last step. A time before that step is taken for that of the
// step: a clock that goes back costs nobody a negative amount.
func (m Meter) Step(next Phase, at time.Time, r *brokerv1.Rate) (Meter, []Piece) {
	if next == m.Phase {
		return m, nil
	}
	if at.Before(m.Since) {
		at = m.Since
	}
	pieces := m.Until(at, r)
	if m.Since.IsZero() {
		pieces = append(pieces, Piece{DayOf(at), Use{Starts: 1, Micros: r.GetPrice().GetStartMicros()}})
	}
	return Meter{next, at}, pieces
}

// Until returns what was used from the last step until at, by day.
func (m Meter) Until(at time.Time, r *brokerv1.Rate) []Piece {
	if m.Phase == Stopped || !at.After(m.Since) {
		return nil
	}
	var out []Piece
	before := Use{}
	for day := DayOf(m.Since); ; day++ {
		end := (day + 1).Start()
		last := !end.Before(at)
		if last {
			end = at
		}
		used := m.Phase.used(end.Sub(m.Since), r)
		out = append(out, Piece{day, used.minus(before)})
		if last {
			return out
		}
		before = used
	}
}

// What the units of Use are in a nanosecond of what the rate counts by.
const (
	perMilli     = int64(time.Millisecond)
	perCPUMicro  = 1_000_000               // thousandths of a CPU, nanoseconds
	perMiBMilli  = 1 << 20 * perMilli      // bytes, nanoseconds
	perHourMicro = 1000 * int64(time.Hour) // billionths for an hour, nanoseconds
)

// used is what so long a time in a phase takes. It never falls with time.
func (p Phase) used(t time.Duration, r *brokerv1.Rate) Use {
	ns := int64(t)
	u := Use{DiskMiBMillis: price.Scale(r.GetDiskBytes(), ns, perMiBMilli)}
	if p == Paused {
		u.PausedMillis = price.Scale(ns, 1, perMilli)
		u.Micros = price.Scale(r.GetPrice().GetPausedNanosPerHour(), ns, perHourMicro)
		return u
	}
	u.RunningMillis = price.Scale(ns, 1, perMilli)
	u.CPUMicros = price.Scale(r.GetCpuMillis(), ns, perCPUMicro)
	u.MemoryMiBMillis = price.Scale(r.GetMemoryBytes(), ns, perMiBMilli)
	u.Micros = price.Scale(r.GetPrice().GetRunningNanosPerHour(), ns, perHourMicro)
	return u
}
