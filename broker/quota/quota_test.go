package quota_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var now = time.Date(2026, 11, 29, 18, 0, 0, 0, time.UTC)

func demand(cpu, memory int64) *quota.Demand {
	return &quota.Demand{At: now, New: true, Rate: &brokerv1.Rate{CpuMillis: cpu, MemoryBytes: memory}}
}

func TestRefusals(t *testing.T) {
	money := &brokerv1.Budget{MoneyMicros: 3_000_000, Currency: "USD"}
	for _, tc := range []struct {
		name    string
		limits  *brokerv1.Limits
		use     quota.Use
		demands []*quota.Demand
		want    string
		limit   string
	}{
		{"no limits", nil, quota.Use{Sandboxes: 1 << 40}, []*quota.Demand{demand(0, 0)}, "", ""},
		{"the last place", &brokerv1.Limits{MaxSandboxes: 3}, quota.Use{Sandboxes: 2}, []*quota.Demand{demand(0, 0)}, "", ""},
		{
			"no place", &brokerv1.Limits{MaxSandboxes: 3},
			quota.Use{Sandboxes: 3},
			[]*quota.Demand{demand(0, 0)},
			`tenant "acme" may have 3 sandboxes, has 3, and this asks for 1 more`, "max_sandboxes",
		},
		{
			"more than there may be, since the limit fell", &brokerv1.Limits{MaxSandboxes: 3},
			quota.Use{Sandboxes: 30},
			[]*quota.Demand{demand(0, 0)},
			`tenant "acme" may have 3 sandboxes, has 30, and this asks for 1 more`, "max_sandboxes",
		},
		{"to resume takes no place", &brokerv1.Limits{MaxSandboxes: 3}, quota.Use{Sandboxes: 3}, []*quota.Demand{{At: now, Rate: &brokerv1.Rate{CpuMillis: 1}}}, "", ""},
		{
			"CPUs", &brokerv1.Limits{MaxCpuMillis: 4000},
			quota.Use{CPUMillis: 2500},
			[]*quota.Demand{demand(1000, 0), demand(1000, 0)},
			`tenant "acme" may have 4 CPUs in use, has 2.5, and this asks for 2 more`, "max_cpu_millis",
		},
		{
			"memory", &brokerv1.Limits{MaxMemoryBytes: 1 << 30},
			quota.Use{MemoryBytes: 1},
			[]*quota.Demand{demand(0, 1<<30)},
			`tenant "acme" may have 1024 MiB of memory in use, has 1 bytes, and this asks for 1024 MiB more`, "max_memory_bytes",
		},
		{
			"memory that is not said", &brokerv1.Limits{Daily: &brokerv1.Budget{MemoryGibSeconds: 1}},
			quota.Use{},
			[]*quota.Demand{demand(1, 0)},
			`spec.resources.memory_bytes is "": want an amount, because tenant "acme" has a limit on memory`, "",
		},
		{"to resume need not be said", &brokerv1.Limits{MaxCpuMillis: 4000}, quota.Use{}, []*quota.Demand{{At: now, Rate: &brokerv1.Rate{}}}, "", ""},
		{"a budget that is not spent", &brokerv1.Limits{Daily: money}, quota.Use{Day: quota.Spent{Money: map[string]int64{"USD": 2_999_999, "EUR": 9_000_000}}}, []*quota.Demand{demand(0, 0)}, "", ""},
		{
			"a day's money", &brokerv1.Limits{Daily: money},
			quota.Use{Day: quota.Spent{Money: map[string]int64{"USD": 3_000_000}}},
			[]*quota.Demand{demand(0, 0)},
			`tenant "acme": the budget for the day is spent: 3.00 USD of 3.00 USD; the next day begins at 2026-11-30T00:00:00Z`, "daily.money_micros",
		},
		{
			"a month's CPU", &brokerv1.Limits{Monthly: &brokerv1.Budget{CpuSeconds: 5400}},
			quota.Use{Month: quota.Spent{CPUMicros: 7_200_000_000}},
			[]*quota.Demand{demand(1, 0)},
			`tenant "acme": the budget for the month is spent: 2.00 CPU-hours of 1.50 CPU-hours; the next month begins at 2026-12-01T00:00:00Z`, "monthly.cpu_seconds",
		},
		{
			"a month's memory, to resume", &brokerv1.Limits{Monthly: &brokerv1.Budget{MemoryGibSeconds: 3600}},
			quota.Use{Month: quota.Spent{MemoryMiBMillis: 3_686_400_000}},
			[]*quota.Demand{{At: now, Rate: &brokerv1.Rate{}}},
			`tenant "acme": the budget for the month is spent: 1.00 GiB-hours of 1.00 GiB-hours; the next month begins at 2026-12-01T00:00:00Z`, "monthly.memory_gib_seconds",
		},
		{"an unknown price, allowed", &brokerv1.Limits{Daily: money}, quota.Use{}, []*quota.Demand{demand(0, 0)}, "", ""},
		{
			"an unknown price, refused", &brokerv1.Limits{Daily: money, UnknownPrice: brokerv1.UnknownPrice_UNKNOWN_PRICE_REFUSE},
			quota.Use{},
			[]*quota.Demand{demand(0, 0)},
			`the price of this sandbox is unknown, and tenant "acme", which has a budget in USD, takes no such sandboxes`, "unknown_price",
		},
		{"an unknown price without a budget in money", &brokerv1.Limits{Daily: &brokerv1.Budget{CpuSeconds: 1}, UnknownPrice: brokerv1.UnknownPrice_UNKNOWN_PRICE_REFUSE}, quota.Use{}, []*quota.Demand{demand(1, 0)}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := quota.Admit("acme", tc.limits, tc.use, tc.demands)
			if tc.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			f := fault.From(err)
			if f == nil || !strings.HasPrefix(f.Message, tc.want) || f.Effect != providerv1.Effect_EFFECT_NONE {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
			if tc.limit != "" && (f.Metadata["limit"] != tc.limit || f.Metadata["tenant"] != "acme" || f.Metadata["remedy"] == "") {
				t.Errorf("the refusal says %v", f.Metadata)
			}
		})
	}
}

// TestPace: whatever comes when, no minute has more than twice what is allowed in
// one, no refusal lies about when the next may come, and who waits so long gets in.
func TestPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.Int64Range(1, 20).Draw(t, "per minute")
		l := &brokerv1.Limits{MaxCreatesPerMinute: perMinute}
		var use quota.Use
		var let []time.Time
		at := now
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause")))
			d := demand(1, 1)
			d.At = at
			until, err := quota.Admit("acme", l, use, []*quota.Demand{d})
			if err != nil {
				f := fault.From(err)
				if f.Reason != providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED || f.RetryAfter <= 0 || f.RetryAfter > time.Minute || !until.Equal(use.CreatesUntil) {
					t.Fatalf("refused with %+v", f)
				}
				d.At = at.Add(f.RetryAfter - 1)
				if _, err := quota.Admit("acme", l, use, []*quota.Demand{d}); err == nil {
					t.Fatalf("let in before %v were over", f.RetryAfter)
				}
				at = at.Add(f.RetryAfter)
				d.At = at
				if until, err = quota.Admit("acme", l, use, []*quota.Demand{d}); err != nil {
					t.Fatalf("refused after %v: %v", f.RetryAfter, err)
				}
			}
			use.CreatesUntil = until
			let = append(let, at)
		}
		for i := range let {
			n := int64(0)
			for _, other := range let[i:] {
				if other.Before(let[i].Add(time.Minute)) {
					n++
				}
			}
			if n > 2*perMinute {
				t.Fatalf("%d in a minute, of %d", n, perMinute)
			}
		}
	})
}

// TestPeriods: what was used counts for its day, its month, and nothing else.
func TestPeriods(t *testing.T) {
	var u quota.Use
	today := metering.DayOf(now)
	for day, n := range map[metering.Day]int64{today: 1, today - 1: 10, today.Month(): 100, today.Month() - 1: 1000, today + 1: 10_000} {
		u.Spend(now, "USD", metering.Piece{Day: day, Use: metering.Use{CPUMicros: n, Micros: n}})
		u.Spend(now, "", metering.Piece{Day: day, Use: metering.Use{MemoryMiBMillis: n}})
	}
	want := quota.Use{
		Day:   quota.Spent{CPUMicros: 1, MemoryMiBMillis: 1, Money: map[string]int64{"USD": 1}},
		Month: quota.Spent{CPUMicros: 111, MemoryMiBMillis: 111, Money: map[string]int64{"USD": 111}},
	}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	for want, l := range map[string]*brokerv1.Limits{
		"": {MaxSandboxes: 5, Daily: &brokerv1.Budget{MoneyMicros: 1, Currency: "EUR"}, WhenSpent: brokerv1.WhenSpent_WHEN_SPENT_DELETE},
		`limits.max_sandboxes is "-1": want 0, which is no limit, or a sensible amount`:                         {MaxSandboxes: -1},
		`limits.max_creates_per_minute is "60000001": want at most 60000000`:                                    {MaxCreatesPerMinute: 60_000_001},
		`limits.monthly.currency is "euro": want three capital letters, such as USD, beside an amount of money`: {Monthly: &brokerv1.Budget{MoneyMicros: 1, Currency: "euro"}},
		`limits.when_spent is "9": want NONE, PAUSE or DELETE`:                                                  {WhenSpent: 9},
		`limits.unknown_price is "9": want ALLOW or REFUSE`:                                                     {UnknownPrice: 9},
	} {
		got := ""
		if err := quota.Check(l); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%v: got  %s\nwant %s", l, got, want)
		}
	}
	if err := quota.Check(nil); err != nil {
		t.Error(err)
	}
}
