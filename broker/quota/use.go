package quota

import (
	"time"

	"github.com/sandbar-dev/sandbar/broker/metering"
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
	// Day and Month are what was used in the current ones.
	Day, Month Spent
}

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

// Spend counts use that was priced in a currency, towards the periods of now that
// its day is in.
func (u *Use) Spend(now time.Time, currency string, p metering.Piece) {
	today := metering.DayOf(now)
	if p.Day < today.Month() || p.Day > today {
		return
	}
	u.Month.add(currency, p.Use)
	if p.Day == today {
		u.Day.add(currency, p.Use)
	}
}

func (s *Spent) add(currency string, u metering.Use) {
	s.CPUMicros += u.CPUMicros
	s.MemoryMiBMillis += u.MemoryMiBMillis
	if currency == "" {
		return
	}
	if s.Money == nil {
		s.Money = make(map[string]int64)
	}
	s.Money[currency] += u.Micros
}
