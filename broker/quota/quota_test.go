package quota_test

import (
	"math"
	"slices"
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
		{"a budget that is not spent", &brokerv1.Limits{Daily: money}, quota.Use{Used: quota.Current{Day: quota.Spent{Money: map[string]int64{"USD": 2_999_999, "EUR": 9_000_000}}}}, []*quota.Demand{demand(0, 0)}, "", ""},
		{
			"a day's money", &brokerv1.Limits{Daily: money},
			quota.Use{Used: quota.Current{Day: quota.Spent{Money: map[string]int64{"USD": 3_000_000}}}},
			[]*quota.Demand{demand(0, 0)},
			`tenant "acme": the budget for the day is spent: 3.00 USD of 3.00 USD; the next day begins at 2026-11-30T00:00:00Z`, "daily.money_micros",
		},
		{
			"a month's CPU", &brokerv1.Limits{Monthly: &brokerv1.Budget{CpuSeconds: 5400}},
			quota.Use{Used: quota.Current{Month: quota.Spent{CPUMicros: 7_200_000_000}}},
			[]*quota.Demand{demand(1, 0)},
			`tenant "acme": the budget for the month is spent: 2.00 CPU-hours of 1.50 CPU-hours; the next month begins at 2026-12-01T00:00:00Z`, "monthly.cpu_seconds",
		},
		{
			"a month's memory, to resume", &brokerv1.Limits{Monthly: &brokerv1.Budget{MemoryGibSeconds: 3600}},
			quota.Use{Used: quota.Current{Month: quota.Spent{MemoryMiBMillis: 3_686_400_000}}},
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
	var u quota.Current
	today := metering.DayOf(now)
	for day, n := range map[metering.Day]int64{today: 1, today - 1: 10, today.Month(): 100, today.Month() - 1: 1000, today + 1: 10_000} {
		u.Spend(now, "USD", metering.Piece{Day: day, Use: metering.Use{CPUMicros: n, Micros: n}})
		u.Spend(now, "", metering.Piece{Day: day, Use: metering.Use{MemoryMiBMillis: n}})
	}
	want := quota.Current{
		Day:   quota.Spent{CPUMicros: 1, MemoryMiBMillis: 1, Money: map[string]int64{"USD": 1}},
		Month: quota.Spent{CPUMicros: 111, MemoryMiBMillis: 111, Money: map[string]int64{"USD": 111}},
	}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// priced is a demand for a sandbox that costs so many millionths of a dollar for a
// minute, and one thousandth for its start.
func priced(at time.Time, microsPerMinute int64) *quota.Demand {
	return &quota.Demand{At: at, New: true, Rate: &brokerv1.Rate{CpuMillis: 1000, Price: &brokerv1.Price{
		Currency: "USD", RunningNanosPerHour: microsPerMinute * 60 * 1000, PausedNanosPerHour: 60_000, StartMicros: 1000,
	}}}
}

// TestReservation: a budget lasts for a minute of all that there is and is asked.
func TestReservation(t *testing.T) {
	const (
		creating = providerv1.SandboxState_SANDBOX_STATE_CREATING
		running  = providerv1.SandboxState_SANDBOX_STATE_RUNNING
		paused   = providerv1.SandboxState_SANDBOX_STATE_PAUSED
		failed   = providerv1.SandboxState_SANDBOX_STATE_FAILED
	)
	ten := &brokerv1.Limits{Daily: &brokerv1.Budget{MoneyMicros: 10_000, Currency: "USD"}}
	late := time.Date(2026, 11, 29, 23, 59, 30, 0, time.UTC)
	type sandbox struct {
		state   providerv1.SandboxState
		started bool
	}
	for _, tc := range []struct {
		name    string
		limits  *brokerv1.Limits
		spent   int64
		at      time.Time
		there   []sandbox
		demands []*quota.Demand
		want    string
	}{
		{"nothing yet", ten, 0, now, nil, []*quota.Demand{priced(now, 9000)}, ""},
		{
			"a start too much", ten, 0, now, nil,
			[]*quota.Demand{priced(now, 9001)},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.00 USD in that time, and this asks for 0.010001 USD`,
		},
		{
			"what is spent", ten, 1, now, nil,
			[]*quota.Demand{priced(now, 9000)},
			`tenant "acme": the budget for the day would not last for another minute: 0.000001 USD of 0.01 USD is spent, what there is uses 0.00 USD in that time, and this asks for 0.01 USD`,
		},
		{"several at once", ten, 0, now, nil, []*quota.Demand{priced(now, 4000), priced(now, 4000)}, ""},
		{
			"too many at once", ten, 0, now, nil,
			[]*quota.Demand{priced(now, 4000), priced(now, 4001)},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.00 USD in that time, and this asks for 0.010001 USD`,
		},
		{"one that runs", ten, 0, now, []sandbox{{running, true}}, []*quota.Demand{priced(now, 4000)}, ""},
		{
			"one that is in the making", ten, 0, now,
			[]sandbox{{creating, false}},
			[]*quota.Demand{priced(now, 4001)},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.005 USD in that time, and this asks for 0.005001 USD`,
		},
		{"one that failed", ten, 0, now, []sandbox{{failed, true}, {failed, false}}, []*quota.Demand{priced(now, 9000)}, ""},
		{"a thousand that are paused", ten, 0, now, slices.Repeat([]sandbox{{paused, true}}, 1000), []*quota.Demand{priced(now, 8000)}, ""},
		{
			"a thousand and one", ten, 0, now, slices.Repeat([]sandbox{{paused, true}}, 1001),
			[]*quota.Demand{priced(now, 8000)},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.001001 USD in that time, and this asks for 0.009 USD`,
		},
		{"to resume is no start", ten, 0, now, nil, []*quota.Demand{{At: now, Rate: priced(now, 10_000).Rate}}, ""},
		{
			"to resume", ten, 0, now, nil,
			[]*quota.Demand{{At: now, Rate: priced(now, 10_001).Rate}},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.00 USD in that time, and this asks for 0.010001 USD`,
		},
		{"what costs nothing that is known", ten, 9_999, now, []sandbox{{running, true}}, []*quota.Demand{demand(1000, 0)}, ""},
		{"the end of the day", ten, 0, late, []sandbox{{running, true}}, []*quota.Demand{priced(late, 14_000)}, ""},
		{
			"the end of the day is not that of the month", &brokerv1.Limits{Monthly: ten.GetDaily()}, 0, late,
			[]sandbox{{running, true}},
			[]*quota.Demand{priced(late, 14_000)},
			`tenant "acme": the budget for the month would not last for another minute: 0.00 USD of 0.01 USD is spent, what there is uses 0.004 USD in that time, and this asks for 0.015 USD`,
		},
		{
			"CPU", &brokerv1.Limits{Daily: &brokerv1.Budget{CpuSeconds: 119}}, 0, now,
			[]sandbox{{creating, false}},
			[]*quota.Demand{priced(now, 1)},
			`tenant "acme": the budget for the day would not last for another minute: 0.00 CPU-hours of 0.033056 CPU-hours is spent, what there is uses 0.016667 CPU-hours in that time, and this asks for 0.016667 CPU-hours`,
		},
		{
			"more than there can be counted", &brokerv1.Limits{Daily: &brokerv1.Budget{CpuSeconds: 1 << 30}}, 0, now, nil,
			[]*quota.Demand{demand(math.MaxInt64, 0), demand(math.MaxInt64, 0)},
			`tenant "acme": the budget for the day would not last for another minute:`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var use quota.Use
			use.Used.Spend(tc.at, "USD", metering.Piece{Day: metering.DayOf(tc.at), Use: metering.Use{Micros: tc.spent}})
			for _, sb := range tc.there {
				use.Reserve(tc.at, sb.state, sb.started, priced(tc.at, 4000).Rate)
			}
			_, err := quota.Admit("acme", tc.limits, use, tc.demands)
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
			for _, key := range []string{"tenant", "limit", "max", "use", "held", "asked", "until", "remedy"} {
				if f.Metadata[key] == "" {
					t.Errorf("the refusal does not say %s: %v", key, f.Metadata)
				}
			}
		})
	}
}

// TestBudgetLasts: whatever is asked when, and whatever ends meanwhile, a minute after the last that
// was let in the budget is not passed.
func TestBudgetLasts(t *testing.T) {
	type life struct {
		rate  *brokerv1.Rate
		meter metering.Meter
		used  []metering.Piece
	}
	rapid.Check(t, func(t *rapid.T) {
		limits := &brokerv1.Limits{Daily: &brokerv1.Budget{MoneyMicros: rapid.Int64Range(1, 1_000_000).Draw(t, "budget"), Currency: "USD"}}
		at := metering.DayOf(now).Start()
		var lives []*life
		spent := func(at time.Time) (sum int64) {
			for _, l := range lives {
				for _, p := range append(slices.Clone(l.used), l.meter.Until(at, l.rate)...) {
					sum += p.Micros
				}
			}
			return sum
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Minute)).Draw(t, "pause")))
			if n := len(lives); n > 0 && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				l := lives[rapid.IntRange(0, n-1).Draw(t, "which")]
				next, pieces := l.meter.Step(metering.Stopped, at, l.rate)
				l.meter, l.used = next, append(l.used, pieces...)
				continue
			}
			var use quota.Use
			use.Used.Spend(at, "USD", metering.Piece{Day: metering.DayOf(at), Use: metering.Use{Micros: spent(at)}})
			for _, l := range lives {
				if l.meter.Phase == metering.Running {
					use.Reserve(at, providerv1.SandboxState_SANDBOX_STATE_RUNNING, true, l.rate)
				}
			}
			d := priced(at, rapid.Int64Range(0, 50_000).Draw(t, "price"))
			if _, err := quota.Admit("acme", limits, use, []*quota.Demand{d}); err != nil {
				continue
			}
			m, pieces := metering.Meter{}.Step(metering.Running, at, d.Rate)
			lives = append(lives, &life{d.Rate, m, pieces})
			// What goes on is rounded twice, to a millionth for each sandbox.
			if got := spent(at.Add(quota.Horizon)); got > limits.GetDaily().GetMoneyMicros()+int64(len(lives)) {
				t.Fatalf("after a minute %d of %d are spent", got, limits.GetDaily().GetMoneyMicros())
			}
		}
	})
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
