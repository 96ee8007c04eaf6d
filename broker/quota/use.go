package quota

import (
	"time"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Use is what a tenant has and used.
type Use struct {
	// Sandboxes counts those that are not gone.
	Sandboxes int64
	// CPUMillis and MemoryBytes are those of sandboxes that run or are on the way
	// there.
	CPUMillis, MemoryBytes int64
	// CreatesUntil is when the creations so far will have been fewer than the limit
	// allows, as Admit returned it.
	CreatesUntil time.Time
	// Used is what was used until now. Held is what the sandboxes that there are will
	// use on top, within Horizon.
	Used, Held Current
}

// Current is what is used in the day and the month of a moment.
type Current struct{ Day, Month Spent }

// Spent is what was used in a period.
type Spent struct {
	CPUMicros, MemoryMiBMillis int64
	// Money is in millionths, by currency.
	Money map[string]int64
}

// Hold counts a sandbox that is not gone.
func (u *Use) Hold(state providerv1.SandboxState, r *brokerv1.Rate) {
	u.Sandboxes++
	switch state {
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED, providerv1.SandboxState_SANDBOX_STATE_FAILED:
	default:
		u.CPUMillis += r.GetCpuMillis()
		u.MemoryBytes += r.GetMemoryBytes()
	}
}

// Reserve counts what a sandbox that is not gone will use within Horizon of now. One
// that is on the way to run, or of which nobody knows, is taken to run; started is
// false while its start is yet to be counted.
func (u *Use) Reserve(now time.Time, state providerv1.SandboxState, started bool, r *brokerv1.Rate) {
	switch state {
	case providerv1.SandboxState_SANDBOX_STATE_FAILED:
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		u.Held.reserve(now, metering.Meter{Phase: metering.Paused, Since: now}, r)
	default:
		u.Held.run(now, started, r)
	}
}

// run counts what a sandbox uses that runs within Horizon, and its start unless that
// is counted already.
func (c *Current) run(now time.Time, started bool, r *brokerv1.Rate) {
	m, start := metering.Meter{}.Step(metering.Running, now, r)
	if started {
		start = nil
	}
	c.reserve(now, m, r, start...)
}

func (c *Current) reserve(now time.Time, m metering.Meter, r *brokerv1.Rate, more ...metering.Piece) {
	today, currency := metering.DayOf(now), r.GetPrice().GetCurrency()
	for _, p := range append(more, m.Until(now.Add(Horizon), r)...) {
		if p.Day == today {
			c.Day.add(currency, p.Use)
		}
		if p.Day < today.NextMonth() {
			c.Month.add(currency, p.Use)
		}
	}
}

// Spend counts use that was priced in a currency, towards the periods of now that
// its day is in.
func (c *Current) Spend(now time.Time, currency string, p metering.Piece) {
	today := metering.DayOf(now)
	if p.Day < today.Month() || p.Day > today {
		return
	}
	c.Month.add(currency, p.Use)
	if p.Day == today {
		c.Day.add(currency, p.Use)
	}
}

func (s *Spent) add(currency string, u metering.Use) {
	s.CPUMicros = price.Sum(s.CPUMicros, u.CPUMicros)
	s.MemoryMiBMillis = price.Sum(s.MemoryMiBMillis, u.MemoryMiBMillis)
	if currency == "" {
		return
	}
	if s.Money == nil {
		s.Money = make(map[string]int64)
	}
	s.Money[currency] = price.Sum(s.Money[currency], u.Micros)
}
