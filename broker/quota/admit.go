package quota

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Demand is what one sandbox wants of its tenant's limits.
type Demand struct {
	At time.Time
	// New is true for a sandbox that is to be made, false for one that is to be
	// resumed.
	New bool
	// Again is true if the same request was counted already, at another provider.
	Again bool
	// Rate is what it is counted and priced by.
	Rate *brokerv1.Rate
}

// None reports whether nothing is limited.
func None(l *brokerv1.Limits) bool { return l == nil || proto.Equal(l, &brokerv1.Limits{}) }

// Admit decides whether a tenant may have all of what is demanded together. It
// returns what Use.CreatesUntil is from then on. A refusal is a *fault.Error that
// says which limit it was, how much of it is in use, and what would help; nothing
// has happened then.
func Admit(tenant string, l *brokerv1.Limits, u Use, demands []*Demand) (createsUntil time.Time, err error) {
	if len(demands) == 0 || None(l) {
		return u.CreatesUntil, nil
	}
	now := demands[0].At
	a := admission{tenant: tenant, limits: l, use: u}
	for _, d := range demands {
		a.cpu += d.Rate.GetCpuMillis()
		a.memory += d.Rate.GetMemoryBytes()
		if d.New {
			a.sandboxes++
		}
		if d.New && !d.Again {
			a.creates++
		}
	}
	for _, check := range []func() error{
		func() error { return a.said(demands) },
		a.atOnce,
		func() error { return refusal(tenant, Exhausted(l, u, now)) },
		func() error { return a.priced(demands) },
		func() error { return a.lasts(now, demands) },
	} {
		if err := check(); err != nil {
			return u.CreatesUntil, err
		}
	}
	return a.paced(now)
}

// admission is one decision.
type admission struct {
	tenant string
	limits *brokerv1.Limits
	use    Use
	// What is demanded.
	sandboxes, creates, cpu, memory int64
}

// said refuses a new sandbox that does not say how much it wants of what is
// limited: it could have all of it.
func (a *admission) said(demands []*Demand) error {
	l := a.limits
	for _, d := range demands {
		if !d.New {
			continue
		}
		for _, n := range []struct {
			field, what string
			limited     bool
			says        int64
		}{
			{"spec.resources.cpu_millis", "CPUs", l.GetMaxCpuMillis() > 0 || l.GetDaily().GetCpuSeconds() > 0 || l.GetMonthly().GetCpuSeconds() > 0, d.Rate.GetCpuMillis()},
			{"spec.resources.memory_bytes", "memory", l.GetMaxMemoryBytes() > 0 || l.GetDaily().GetMemoryGibSeconds() > 0 || l.GetMonthly().GetMemoryGibSeconds() > 0, d.Rate.GetMemoryBytes()},
		} {
			if n.limited && n.says == 0 {
				return fault.Field(n.field, "", fmt.Sprintf("want an amount, because tenant %q has a limit on %s and nothing says how much this sandbox gets", a.tenant, n.what))
			}
		}
	}
	return nil
}

// quota is one number that a tenant may have at once.
type quota struct {
	limit, what    string
	max, has, want int64
	show           func(int64) string
	remedy         string
}

// atOnce refuses what would be too much at once.
func (a *admission) atOnce() error {
	for _, q := range []quota{
		{"max_sandboxes", "sandboxes", a.limits.GetMaxSandboxes(), a.use.Sandboxes, a.sandboxes, number, "remove sandboxes that are not needed"},
		{"max_cpu_millis", "CPUs in use", a.limits.GetMaxCpuMillis(), a.use.CPUMillis, a.cpu, cpus, "pause or remove sandboxes, or ask for fewer CPUs"},
		{"max_memory_bytes", "of memory in use", a.limits.GetMaxMemoryBytes(), a.use.MemoryBytes, a.memory, size, "pause or remove sandboxes, or ask for less memory"},
	} {
		if q.max == 0 || q.want == 0 || q.want <= q.max-q.has {
			continue
		}
		return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED,
			"tenant %q may have %s %s, has %s, and this asks for %s more", a.tenant, q.show(q.max), q.what, q.show(q.has), q.show(q.want)).
			With("tenant", a.tenant).With("limit", q.limit).With("max", number(q.max)).With("use", number(q.has)).With("asked", number(q.want)).
			With("remedy", q.remedy+"; an admin can change the limit with `sandbar tenant set`")
	}
	return nil
}

// priced refuses what a budget in money cannot count.
func (a *admission) priced(demands []*Demand) error {
	if a.limits.GetUnknownPrice() != brokerv1.UnknownPrice_UNKNOWN_PRICE_REFUSE {
		return nil
	}
	for _, b := range []*brokerv1.Budget{a.limits.GetDaily(), a.limits.GetMonthly()} {
		for _, d := range demands {
			p := d.Rate.GetPrice()
			if b.GetMoneyMicros() == 0 || p != nil && p.GetCurrency() == b.GetCurrency() {
				continue
			}
			has := "unknown"
			if p != nil {
				has = "in " + p.GetCurrency()
			}
			return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED,
				"the price of this sandbox is %s, and tenant %q, which has a budget in %s, takes no such sandboxes", has, a.tenant, b.GetCurrency()).
				With("tenant", a.tenant).With("limit", "unknown_price").With("currency", b.GetCurrency()).With("price", has).
				With("remedy", "choose a provider with a price book in that currency, and say how much CPU, memory and disk it is to have")
		}
	}
	return nil
}

// paced refuses what comes too soon. The limit is kept by one moment, which each
// creation moves on by its share of a minute, and which may be a minute ahead at
// most.
func (a *admission) paced(now time.Time) (until time.Time, err error) {
	perMinute := a.limits.GetMaxCreatesPerMinute()
	if perMinute == 0 || a.creates == 0 {
		return a.use.CreatesUntil, nil
	}
	refused := func(reason providerv1.ErrorReason, format string, args ...any) *fault.Error {
		return fault.New(reason, "tenant %q may ask for %d sandboxes in a minute, %s", a.tenant, perMinute, fmt.Sprintf(format, args...)).
			With("tenant", a.tenant).With("limit", "max_creates_per_minute").With("max", number(perMinute)).With("asked", number(a.creates))
	}
	if a.creates > perMinute {
		return a.use.CreatesUntil, refused(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "and this asks for %d at once", a.creates).
			With("remedy", "ask for fewer copies; an admin can change the limit with `sandbar tenant set`")
	}
	share := time.Minute / time.Duration(perMinute)
	from := a.use.CreatesUntil
	if from.Before(now) {
		from = now
	}
	until = from.Add(time.Duration(a.creates) * share)
	wait := until.Sub(now.Add(time.Minute))
	if wait <= 0 {
		return until, nil
	}
	use := (from.Sub(now) + share - 1) / share
	return a.use.CreatesUntil, refused(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "and asked for %d; the next may come in %s", use, wait.Round(time.Millisecond)).
		With("use", number(int64(use))).With("remedy", "wait, or let several requests use one sandbox").WithRetryAfter(wait)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func cpus(n int64) string { return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) }

// size writes bytes in MiB, or as they are where that would lose something.
func size(n int64) string {
	if n%(1<<20) != 0 {
		return number(n) + " bytes"
	}
	return number(n>>20) + " MiB"
}
