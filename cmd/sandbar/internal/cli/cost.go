package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type costCmd struct {
	By       string `enum:"provider,tenant,sandbox,day" default:"provider" help:"A line for each: provider, tenant, sandbox or day." placeholder:"WHAT"`
	From     string `help:"First day, in UTC, such as 2026-11-01. Default: the first of the month." placeholder:"DAY"`
	To       string `help:"Last day. Default: today." placeholder:"DAY"`
	Provider string `help:"Only on this provider." placeholder:"NAME"`
	Limit    int32  `help:"Most lines; the rest is added up in the last one." placeholder:"N"`
}

// Help is shown below the flags.
func (*costCmd) Help() string {
	return "CPU, memory and disk are what was requested, for as long as it ran; disk also while it was paused. " +
		"Amounts are what the price books in the broker's configuration make of that: exact, or an estimate where the provider charges " +
		"what was really used (usage-dependent) or by plan (plan-dependent). What has no price is unknown, not 0. " +
		"--tenant '*' is for all tenants, if you are an admin."
}

// Run shows what sandboxes used and cost.
func (c *costCmd) Run(ctx context.Context, a *app) error {
	req := &brokerv1.GetCostRequest{
		FirstDay: c.From, LastDay: c.To, Provider: c.Provider, Limit: c.Limit,
		Group: brokerv1.CostGroup(brokerv1.CostGroup_value["COST_GROUP_"+strings.ToUpper(c.By)]),
	}
	cost, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.GetCostResponse, error) {
		res, err := cl.GetCost(ctx, request(req))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, cost)
	}
	rows := make([][]string, 0, len(cost.GetLines())+1)
	for _, line := range cost.GetLines() {
		rows = append(rows, costRows(lineName(c.By, line), line)...)
	}
	rows = append(rows, costRows("total", cost.GetTotal())...)
	if err := a.out("From %s to %s, in UTC, until %s:\n", cost.GetFirstDay(), cost.GetLastDay(), cost.GetAt().AsTime().UTC().Format(time.TimeOnly)); err != nil {
		return err
	}
	return render.Table(a.stdout, []string{strings.ToUpper(c.By), "COST", "BASIS", "STARTS", "RUNNING", "PAUSED", "CPU-HOURS", "GIB-HOURS", "DISK GIB-HOURS"}, rows)
}

// lineName says what a line is of.
func lineName(by string, line *brokerv1.CostLine) string {
	switch {
	case line.GetOthers() > 0:
		return count(int(line.GetOthers()), "other", "others")
	case by == "tenant":
		return line.GetTenant()
	case by == "day":
		return line.GetDay()
	case by == "provider":
		return line.GetProvider()
	case line.GetSandboxName() != "":
		return line.GetSandboxId() + " (" + line.GetSandboxName() + ")"
	default:
		return line.GetSandboxId()
	}
}

const (
	hourMillis    = 3_600_000
	hourCPUMicros = 3_600_000_000
	hourGiBMillis = 1024 * hourMillis
)

// costRows writes a line, one row for each part; the first row names it.
func costRows(name string, line *brokerv1.CostLine) [][]string {
	parts := line.GetParts()
	if len(parts) == 0 {
		return [][]string{{name, "0", "", "0", "0h", "0h", "0", "0", "0"}}
	}
	rows := make([][]string, 0, len(parts))
	for _, p := range parts {
		amount := "unknown"
		if p.GetCurrency() != "" {
			amount = price.FormatMicros(p.GetMicros()) + " " + p.GetCurrency()
		}
		rows = append(rows, []string{
			name, amount, render.Enum(p.GetBasis(), "PRICE_BASIS_"), strconv.FormatInt(p.GetStarts(), 10),
			hours(p.GetRunningMilliseconds(), hourMillis) + "h", hours(p.GetPausedMilliseconds(), hourMillis) + "h",
			hours(p.GetCpuMicroseconds(), hourCPUMicros), hours(p.GetMemoryMibMilliseconds(), hourGiBMillis), hours(p.GetDiskMibMilliseconds(), hourGiBMillis),
		})
		name = " "
	}
	return rows
}

// costs says what a sandbox would cost, after other words; nothing if nobody knows.
func costs(p *brokerv1.Price) string {
	if p == nil {
		return ""
	}
	text := ", " + price.FormatNanos(p.GetRunningNanosPerHour()) + " " + p.GetCurrency() + "/h"
	if p.GetBasis() != brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC {
		text += " (" + render.Enum(p.GetBasis(), "PRICE_BASIS_") + ")"
	}
	return text
}
