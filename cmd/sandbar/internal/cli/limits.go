package cli

import (
	"context"
	"encoding"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// noLimit takes a limit away.
const noLimit = "none"

type tenantSetCmd struct {
	Description         *string `help:"What it is for." placeholder:"TEXT"`
	MaxSandboxes        string  `help:"Sandboxes it may have at once, paused ones included." placeholder:"N"`
	MaxCreatesPerMinute string  `help:"Sandboxes it may ask for in a minute, copies and restored ones included." placeholder:"N"`
	MaxCPU              string  `name:"max-cpu" help:"CPUs of its sandboxes that run, such as 16." placeholder:"N"`
	MaxMemory           string  `help:"Memory of its sandboxes that run, such as 64GiB." placeholder:"SIZE"`
	DailyMoney          string  `help:"Money it may spend in a day (UTC), such as 25 or 25EUR." placeholder:"AMOUNT"`
	MonthlyMoney        string  `help:"Money it may spend in a month." placeholder:"AMOUNT"`
	DailyCPUHours       string  `name:"daily-cpu-hours" help:"CPU-hours that its sandboxes may ask for and run in a day." placeholder:"HOURS"`
	MonthlyCPUHours     string  `name:"monthly-cpu-hours" help:"The same in a month." placeholder:"HOURS"`
	DailyMemoryHours    string  `help:"GiB-hours of memory in a day." placeholder:"HOURS"`
	MonthlyMemoryHours  string  `help:"The same in a month." placeholder:"HOURS"`
	UnknownPrice        string  `enum:",allow,refuse" default:"" help:"Beside a budget in money, allow or refuse sandboxes whose price is unknown." placeholder:"WHAT"`
	WhenSpent           string  `enum:",none,pause,delete" default:"" help:"What becomes of sandboxes that run when a budget is spent: none, pause or delete." placeholder:"WHAT"`
	Name                string  `arg:"" help:"Name of the tenant."`
}

// Help is shown below the flags.
func (*tenantSetCmd) Help() string {
	return "Changes what is given and leaves the rest; none takes a limit away. Once a budget is spent nothing is made or resumed before the next day or month."
}

// Run changes a tenant.
func (c *tenantSetCmd) Run(ctx context.Context, a *app) error {
	req, err := c.request()
	if err != nil {
		return err
	}
	t, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Tenant, error) {
		res, err := cl.Access.UpdateTenant(ctx, request(req))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetTenant(), nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, t)
	}
	return a.out("%s: %s", t.GetName(), render.Cell(limits(t.GetLimits())))
}

// number is a limit that is a number of things.
type number int64

// UnmarshalText parses a number of at least 1.
func (n *number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || v < 1 {
		return badNumber(text)
	}
	*n = number(v)
	return nil
}

type badNumber string

func (b badNumber) Error() string {
	return strconv.Quote(string(b)) + " is not a number; write 1 or more"
}

func (c *tenantSetCmd) request() (*brokerv1.UpdateTenantRequest, error) {
	req := &brokerv1.UpdateTenantRequest{Name: c.Name, UpdateMask: &fieldmaskpb.FieldMask{}}
	day, month := &brokerv1.Budget{}, &brokerv1.Budget{}
	req.Limits = &brokerv1.Limits{Daily: day, Monthly: month}
	if c.Description != nil {
		req.Description = *c.Description
		req.UpdateMask.Paths = append(req.GetUpdateMask().GetPaths(), "description")
	}
	var count, creates number
	var cpu value.CPU
	var memory value.Size
	var dayMoney, monthMoney value.Money
	var dayCPU, monthCPU, dayMemory, monthMemory value.Hours
	for _, f := range []struct {
		flag, text string
		to         encoding.TextUnmarshaler
		fields     []string
	}{
		{"max-sandboxes", c.MaxSandboxes, &count, []string{"max_sandboxes"}},
		{"max-creates-per-minute", c.MaxCreatesPerMinute, &creates, []string{"max_creates_per_minute"}},
		{"max-cpu", c.MaxCPU, &cpu, []string{"max_cpu_millis"}},
		{"max-memory", c.MaxMemory, &memory, []string{"max_memory_bytes"}},
		{"daily-money", c.DailyMoney, &dayMoney, []string{"daily.money_micros", "daily.currency"}},
		{"monthly-money", c.MonthlyMoney, &monthMoney, []string{"monthly.money_micros", "monthly.currency"}},
		{"daily-cpu-hours", c.DailyCPUHours, &dayCPU, []string{"daily.cpu_seconds"}},
		{"monthly-cpu-hours", c.MonthlyCPUHours, &monthCPU, []string{"monthly.cpu_seconds"}},
		{"daily-memory-hours", c.DailyMemoryHours, &dayMemory, []string{"daily.memory_gib_seconds"}},
		{"monthly-memory-hours", c.MonthlyMemoryHours, &monthMemory, []string{"monthly.memory_gib_seconds"}},
	} {
		if f.text == "" {
			continue
		}
		if f.text != noLimit {
			if err := f.to.UnmarshalText([]byte(f.text)); err != nil {
				return nil, &usageError{message: "--" + f.flag + ": " + err.Error() + ", or none"}
			}
		}
		for _, field := range f.fields {
			req.UpdateMask.Paths = append(req.GetUpdateMask().GetPaths(), "limits."+field)
		}
	}
	l := req.GetLimits()
	l.MaxSandboxes, l.MaxCreatesPerMinute, l.MaxCpuMillis, l.MaxMemoryBytes = int64(count), int64(creates), int64(cpu), int64(memory)
	day.MoneyMicros, day.Currency, month.MoneyMicros, month.Currency = dayMoney.Micros, dayMoney.Currency, monthMoney.Micros, monthMoney.Currency
	day.CpuSeconds, month.CpuSeconds = int64(dayCPU), int64(monthCPU)
	day.MemoryGibSeconds, month.MemoryGibSeconds = int64(dayMemory), int64(monthMemory)
	c.policies(req)
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		return nil, &usageError{message: "nothing to set: give a flag such as --max-sandboxes 10"}
	}
	return req, nil
}

func (c *tenantSetCmd) policies(req *brokerv1.UpdateTenantRequest) {
	if c.UnknownPrice != "" {
		req.Limits.UnknownPrice = brokerv1.UnknownPrice(brokerv1.UnknownPrice_value["UNKNOWN_PRICE_"+strings.ToUpper(c.UnknownPrice)])
		req.UpdateMask.Paths = append(req.GetUpdateMask().GetPaths(), "limits.unknown_price")
	}
	if c.WhenSpent != "" {
		req.Limits.WhenSpent = brokerv1.WhenSpent(brokerv1.WhenSpent_value["WHEN_SPENT_"+strings.ToUpper(c.WhenSpent)])
		req.UpdateMask.Paths = append(req.GetUpdateMask().GetPaths(), "limits.when_spent")
	}
}

// limits writes limits in a line, as the flags that would set them.
func limits(l *brokerv1.Limits) string {
	var out []string
	add := func(name string, n int64, text string) {
		if n > 0 {
			out = append(out, name+"="+text)
		}
	}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	add("max-sandboxes", l.GetMaxSandboxes(), count(l.GetMaxSandboxes()))
	add("max-creates-per-minute", l.GetMaxCreatesPerMinute(), count(l.GetMaxCreatesPerMinute()))
	add("max-cpu", l.GetMaxCpuMillis(), thousandths(l.GetMaxCpuMillis()))
	add("max-memory", l.GetMaxMemoryBytes(), render.Bytes(l.GetMaxMemoryBytes()))
	for _, b := range []struct {
		name string
		*brokerv1.Budget
	}{{"daily", l.GetDaily()}, {"monthly", l.GetMonthly()}} {
		add(b.name+"-money", b.GetMoneyMicros(), price.FormatMicros(b.GetMoneyMicros())+b.GetCurrency())
		add(b.name+"-cpu-hours", b.GetCpuSeconds(), hours(b.GetCpuSeconds(), 3600))
		add(b.name+"-memory-hours", b.GetMemoryGibSeconds(), hours(b.GetMemoryGibSeconds(), 3600))
	}
	if p := l.GetUnknownPrice(); p != 0 {
		out = append(out, "unknown-price="+render.Enum(p, "UNKNOWN_PRICE_"))
	}
	if w := l.GetWhenSpent(); w != 0 {
		out = append(out, "when-spent="+render.Enum(w, "WHEN_SPENT_"))
	}
	return strings.Join(out, " ")
}

func thousandths(n int64) string { return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) }

// hours writes an amount of which so many are an hour, to the hundredth.
func hours(n, per int64) string {
	return strconv.FormatFloat(float64(price.Scale(n, 100, per))/100, 'f', -1, 64)
}
