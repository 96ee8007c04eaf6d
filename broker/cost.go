package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	// usedLife is for how many days it is known which sandbox used what: a quarter,
	// which is as long as somebody asks about a bill.
	usedLife = 92
	// maxCostLines bounds an answer well below the 4 MiB of a message.
	maxCostLines = 1000
)

// GetCost says what the sandboxes of the caller's tenant used and cost.
func (s *Service) GetCost(ctx context.Context, req *brokerv1.GetCostRequest) (*brokerv1.GetCostResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	now := s.opts.Clock()
	f, err := costFilter(req, now)
	if err != nil {
		return nil, err
	}
	if req.GetProvider() != "" {
		if err := who.NeedProvider(req.GetProvider()); err != nil {
			return nil, err
		}
	}
	f.Tenant = tenantFilter(who)
	used, err := s.store.Used(ctx, f, now)
	if err != nil {
		return nil, state.Fault(err)
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = maxCostLines
	}
	out := costs(used, req.GetGroup(), limit)
	out.FirstDay, out.LastDay, out.At = f.First.String(), f.Last.String(), timestamppb.New(now)
	return out, nil
}

func costFilter(req *brokerv1.GetCostRequest, now time.Time) (state.UseFilter, error) {
	today := metering.DayOf(now)
	f := state.UseFilter{
		Provider: req.GetProvider(), First: today.Month(), Last: today,
		BySandbox: req.GetGroup() == brokerv1.CostGroup_COST_GROUP_SANDBOX,
	}
	for _, d := range []struct {
		field, text string
		to          *metering.Day
	}{{"first_day", req.GetFirstDay(), &f.First}, {"last_day", req.GetLastDay(), &f.Last}} {
		if d.text == "" {
			continue
		}
		day, err := metering.ParseDay(d.text)
		if err != nil {
			return f, fault.Field(d.field, d.text, "want a day such as 2026-11-01")
		}
		*d.to = day
	}
	if req.GetFirstDay() == "" && f.First > f.Last {
		f.First = f.Last.Month()
	}
	switch n := req.GetLimit(); {
	case f.First > f.Last:
		return f, fault.Field("first_day", f.First.String(), "want a day not after the last one, "+f.Last.String())
	case f.BySandbox && f.First < today-usedLife:
		return f, fault.Field("first_day", f.First.String(), fmt.Sprintf("want %s or later: by sandbox, costs are known for %d days", today-usedLife, usedLife))
	case n < 0 || n > maxCostLines:
		return f, fault.Field("limit", strconv.Itoa(int(n)), fmt.Sprintf("want 1 to %d, or 0 for all of them", maxCostLines))
	case brokerv1.CostGroup_name[int32(req.GetGroup())] == "":
		return f, fault.Field("group", req.GetGroup().String(), "want TENANT, PROVIDER, SANDBOX, DAY or none")
	}
	return f, nil
}

// costs adds up use by group. Each use is in the total once, and in one line once.
func costs(used []state.Used, group brokerv1.CostGroup, limit int) *brokerv1.GetCostResponse {
	out := &brokerv1.GetCostResponse{Total: &brokerv1.CostLine{}}
	lines := make(map[string]*brokerv1.CostLine)
	for _, u := range used {
		addUsed(out.GetTotal(), u)
		key, line := lineOf(group, u)
		if line == nil {
			continue
		}
		if lines[key] == nil {
			lines[key] = line
			out.Lines = append(out.Lines, line)
		}
		addUsed(lines[key], u)
	}
	slices.SortFunc(out.GetLines(), func(a, b *brokerv1.CostLine) int {
		if group == brokerv1.CostGroup_COST_GROUP_DAY {
			return cmp.Compare(a.GetDay(), b.GetDay())
		}
		return cmp.Or(cmp.Compare(micros(b), micros(a)), cmp.Compare(a.GetTenant(), b.GetTenant()),
			cmp.Compare(a.GetProvider(), b.GetProvider()), cmp.Compare(a.GetSandboxId(), b.GetSandboxId()))
	})
	for _, line := range append([]*brokerv1.CostLine{out.GetTotal()}, out.GetLines()...) {
		sortParts(line)
	}
	if lines := out.GetLines(); len(lines) > limit {
		out.Lines = slices.Concat(lines[:limit-1], []*brokerv1.CostLine{rest(lines[limit-1:])})
	}
	return out
}

// lineOf returns an empty line for use, and what tells it from others; nil if
// nobody wants lines.
func lineOf(group brokerv1.CostGroup, u state.Used) (key string, _ *brokerv1.CostLine) {
	switch group {
	case brokerv1.CostGroup_COST_GROUP_TENANT:
		return u.Tenant, &brokerv1.CostLine{Tenant: u.Tenant}
	case brokerv1.CostGroup_COST_GROUP_PROVIDER:
		return u.Provider, &brokerv1.CostLine{Provider: u.Provider}
	case brokerv1.CostGroup_COST_GROUP_SANDBOX:
		return u.SandboxID, &brokerv1.CostLine{Tenant: u.Tenant, Provider: u.Provider, SandboxId: u.SandboxID, SandboxName: u.Name}
	case brokerv1.CostGroup_COST_GROUP_DAY:
		return u.Day.String(), &brokerv1.CostLine{Day: u.Day.String()}
	default:
		return "", nil
	}
}

func addUsed(line *brokerv1.CostLine, u state.Used) {
	addPart(line, &brokerv1.CostPart{
		Currency: u.Currency, Basis: u.Basis, Micros: u.Micros, Starts: u.Starts,
		RunningMilliseconds: u.RunningMillis, PausedMilliseconds: u.PausedMillis, CpuMicroseconds: u.CPUMicros,
		MemoryMibMilliseconds: u.MemoryMiBMillis, DiskMibMilliseconds: u.DiskMiBMillis,
	})
}

// addPart adds to the part of a line that is priced alike.
func addPart(line *brokerv1.CostLine, p *brokerv1.CostPart) {
	for _, have := range line.GetParts() {
		if have.GetCurrency() == p.GetCurrency() && have.GetBasis() == p.GetBasis() {
			have.Micros += p.GetMicros()
			have.Starts += p.GetStarts()
			have.RunningMilliseconds += p.GetRunningMilliseconds()
			have.PausedMilliseconds += p.GetPausedMilliseconds()
			have.CpuMicroseconds += p.GetCpuMicroseconds()
			have.MemoryMibMilliseconds += p.GetMemoryMibMilliseconds()
			have.DiskMibMilliseconds += p.GetDiskMibMilliseconds()
			return
		}
	}
	line.Parts = append(line.Parts, p)
}

// sortParts puts what has a price before what has none.
func sortParts(line *brokerv1.CostLine) {
	slices.SortFunc(line.GetParts(), func(a, b *brokerv1.CostPart) int {
		if (a.GetCurrency() == "") != (b.GetCurrency() == "") {
			return cmp.Compare(b.GetCurrency(), a.GetCurrency())
		}
		return cmp.Or(cmp.Compare(a.GetCurrency(), b.GetCurrency()), cmp.Compare(a.GetBasis(), b.GetBasis()))
	})
}

// rest is one line for many.
func rest(lines []*brokerv1.CostLine) *brokerv1.CostLine {
	out := &brokerv1.CostLine{Others: int64(len(lines))}
	for _, line := range lines {
		for _, p := range line.GetParts() {
			addPart(out, p)
		}
	}
	sortParts(out)
	return out
}

func micros(line *brokerv1.CostLine) (sum int64) {
	for _, p := range line.GetParts() {
		sum += p.GetMicros()
	}
	return sum
}
