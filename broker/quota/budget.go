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

// Horizon is how long a budget has to last if something more is to run: for that,
// and for all that runs then. It is several times as long as it takes the broker to
// notice that a budget is spent, so that many creations at the same moment cannot
// spend what is there for one; and short, so that hardly anything of a budget is
// left over.
const Horizon = time.Minute

// Exhausted returns the first part of a tenant's budgets that is spent, the month
// before the day; nil if none is.
func Exhausted(l *brokerv1.Limits, u Use, now time.Time) *Exhaustion {
	for _, p := range periods(l, now) {
		for _, part := range parts(p.budget) {
			if spent := part.of(p.of(u.Used)); part.max > 0 && spent >= part.max {
				return &Exhaustion{
					Limit: p.field + "." + part.field, Period: p.name, Spent: part.show(spent), Max: part.show(part.max), Until: p.until,
				}
			}
		}
	}
	return nil
}

// lasts refuses what a budget would not last for.
func (a *admission) lasts(now time.Time, demands []*Demand) error {
	var asked Current
	for _, d := range demands {
		asked.run(now, !d.New, d.Rate)
	}
	for _, p := range periods(a.limits, now) {
		for _, part := range parts(p.budget) {
			spent, held, want := part.of(p.of(a.use.Used)), part.of(p.of(a.use.Held)), part.of(p.of(asked))
			if part.max == 0 || want == 0 || price.Sum(spent, held, want) <= part.max {
				continue
			}
			remedy := "pause or remove sandboxes, or wait for the next " + p.name
			if want > part.max {
				remedy = "ask for less, or for fewer copies"
			}
			return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED,
				"tenant %q: the budget for the %s would not last for another minute: %s of %s is spent, what there is uses %s in that time, and this asks for %s",
				a.tenant, p.name, part.show(spent), part.show(part.max), part.show(held), part.show(want)).
				With("tenant", a.tenant).With("limit", p.field+"."+part.field).With("max", part.show(part.max)).
				With("use", part.show(spent)).With("held", part.show(held)).With("asked", part.show(want)).
				With("until", p.until.Format(time.RFC3339)).With("remedy", remedy+"; an admin can change the budget with `sandbar tenant set`")
		}
	}
	return nil
}

// period is a budget and the time that it is for.
type period struct {
	// name is day or month, and field that of Limits.
	name, field string
	budget      *brokerv1.Budget
	// until is when the next one begins.
	until time.Time
	of    func(Current) Spent
}

func periods(l *brokerv1.Limits, now time.Time) []period {
	today := metering.DayOf(now)
	return []period{
		{"month", "monthly", l.GetMonthly(), today.NextMonth().Start(), func(c Current) Spent { return c.Month }},
		{"day", "daily", l.GetDaily(), (today + 1).Start(), func(c Current) Spent { return c.Day }},
	}
}

// part is one amount of a budget.
type part struct {
	field string
	// max is 0 if there is no such part.
	max  int64
	of   func(Spent) int64
	show func(int64) string
}

// Budgets are in seconds, GiB and whole currencies; what is spent is finer.
const (
	microsPerSecond    = 1_000_000
	mibMillisPerGiBSec = 1024 * 1000
	secondsPerHour     = 3600
)

func parts(b *brokerv1.Budget) []part {
	hours := func(unit string, per int64) func(int64) string {
		return func(n int64) string { return price.FormatMicros(price.Scale(n, 1_000_000, per)) + " " + unit }
	}
	return []part{
		{
			"money_micros", b.GetMoneyMicros(),
			func(s Spent) int64 { return s.Money[b.GetCurrency()] },
			func(n int64) string { return price.FormatMicros(n) + " " + b.GetCurrency() },
		},
		{
			"cpu_seconds", scaled(b.GetCpuSeconds(), microsPerSecond),
			func(s Spent) int64 { return s.CPUMicros }, hours("CPU-hours", microsPerSecond*secondsPerHour),
		},
		{
			"memory_gib_seconds", scaled(b.GetMemoryGibSeconds(), mibMillisPerGiBSec),
			func(s Spent) int64 { return s.MemoryMiBMillis }, hours("GiB-hours", mibMillisPerGiBSec*secondsPerHour),
		},
	}
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
