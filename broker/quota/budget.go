package quota

import (
	"time"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Exhaustion is a part of a budget that is spent.
type Exhaustion struct {
	// Limit is the field of Limits, such as daily.money_micros.
	Limit string
	// Period is day or month, and What what was spent, such as "3.00 USD".
	Period, Spent, Max string
	// Until is when the next period begins.
	Until time.Time
}

// String says it in the middle of a sentence.
func (e *Exhaustion) String() string {
	return "the budget for the " + e.Period + " is spent: " + e.Spent + " of " + e.Max
}

// Exhausted returns the first part of a tenant's budgets that is spent, the month
// before the day; nil if none is.
func Exhausted(l *brokerv1.Limits, u Use, now time.Time) *Exhaustion {
	today := metering.DayOf(now)
	if e := exhausted("month", "monthly", l.GetMonthly(), u.Month); e != nil {
		e.Until = today.NextMonth().Start()
		return e
	}
	if e := exhausted("day", "daily", l.GetDaily(), u.Day); e != nil {
		e.Until = (today + 1).Start()
		return e
	}
	return nil
}

// Budgets are in seconds, GiB and whole currencies; what is spent is finer.
const (
	microsPerSecond    = 1_000_000
	mibMillisPerGiBSec = 1024 * 1000
	secondsPerHour     = 3600
)

func exhausted(period, field string, b *brokerv1.Budget, s Spent) *Exhaustion {
	money := func(n int64) string { return price.FormatMicros(n) + " " + b.GetCurrency() }
	hours := func(unit string, per int64) func(int64) string {
		return func(n int64) string { return price.FormatMicros(price.Scale(n, 1_000_000, per)) + " " + unit }
	}
	for _, part := range []struct {
		field      string
		max, spent int64
		show       func(int64) string
	}{
		{"money_micros", b.GetMoneyMicros(), s.Money[b.GetCurrency()], money},
		{"cpu_seconds", scaled(b.GetCpuSeconds(), microsPerSecond), s.CPUMicros, hours("CPU-hours", microsPerSecond*secondsPerHour)},
		{"memory_gib_seconds", scaled(b.GetMemoryGibSeconds(), mibMillisPerGiBSec), s.MemoryMiBMillis, hours("GiB-hours", mibMillisPerGiBSec*secondsPerHour)},
	} {
		if part.max > 0 && part.spent >= part.max {
			return &Exhaustion{Limit: field + "." + part.field, Period: period, Spent: part.show(part.spent), Max: part.show(part.max)}
		}
	}
	return nil
}

func scaled(n, by int64) int64 { return price.Scale(n, by, 1) }

// refusal is the error for a tenant whose budget is spent; nil if none is.
func refusal(tenant string, e *Exhaustion) error {
	if e == nil {
		return nil
	}
	until := e.Until.Format(time.RFC3339)
	return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "tenant %q: %s; the next %s begins at %s", tenant, e, e.Period, until).
		With("tenant", tenant).With("limit", e.Limit).With("max", e.Max).With("use", e.Spent).With("until", until).
		With("remedy", "wait for the next "+e.Period+"; an admin can change the budget with `sandbar tenant set`")
}
