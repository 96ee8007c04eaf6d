package quota

import (
	"strconv"

	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	// most bounds what a limit can be, so that what is computed of it fits in 64 bits.
	most = 1 << 40
	// mostPerMinute leaves a microsecond to each creation.
	mostPerMinute = 60_000_000
)

// Check refuses limits that cannot be.
func Check(l *brokerv1.Limits) error {
	for _, n := range []struct {
		field string
		value int64
	}{
		{"max_sandboxes", l.GetMaxSandboxes()},
		{"max_creates_per_minute", l.GetMaxCreatesPerMinute()},
		{"max_cpu_millis", l.GetMaxCpuMillis()},
		{"daily.cpu_seconds", l.GetDaily().GetCpuSeconds()},
		{"monthly.cpu_seconds", l.GetMonthly().GetCpuSeconds()},
		{"daily.memory_gib_seconds", l.GetDaily().GetMemoryGibSeconds()},
		{"monthly.memory_gib_seconds", l.GetMonthly().GetMemoryGibSeconds()},
		{"daily.money_micros", l.GetDaily().GetMoneyMicros() >> 20},
		{"monthly.money_micros", l.GetMonthly().GetMoneyMicros() >> 20},
		{"max_memory_bytes", l.GetMaxMemoryBytes() >> 20},
	} {
		if n.value < 0 || n.value > most {
			return fault.Field("limits."+n.field, strconv.FormatInt(n.value, 10), "want 0, which is no limit, or a sensible amount")
		}
	}
	if n := l.GetMaxCreatesPerMinute(); n > mostPerMinute {
		return fault.Field("limits.max_creates_per_minute", strconv.FormatInt(n, 10), "want at most "+strconv.Itoa(mostPerMinute))
	}
	for field, b := range map[string]*brokerv1.Budget{"daily": l.GetDaily(), "monthly": l.GetMonthly()} {
		if c := b.GetCurrency(); b.GetMoneyMicros() > 0 && !price.ValidCurrency(c) {
			return fault.Field("limits."+field+".currency", c, "want three capital letters, such as USD, beside an amount of money")
		}
	}
	if v := l.GetUnknownPrice(); brokerv1.UnknownPrice_name[int32(v)] == "" {
		return fault.Field("limits.unknown_price", v.String(), "want ALLOW or REFUSE")
	}
	if v := l.GetWhenSpent(); brokerv1.WhenSpent_name[int32(v)] == "" {
		return fault.Field("limits.when_spent", v.String(), "want NONE, PAUSE or DELETE")
	}
	return nil
}
