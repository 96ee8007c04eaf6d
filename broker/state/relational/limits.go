package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// admit keeps a tenant from being removed until the transaction ends, and asks its
// limits. A tenant without limits is held together with others who insert for it;
// one with limits is held alone, so that what is counted stays true.
func (q queries) admit(ctx context.Context, tenant string, sandboxes ...*state.Sandbox) error {
	var demands []*quota.Demand
	for _, sb := range sandboxes {
		if sb.Admission != nil {
			demands = append(demands, sb.Admission)
		}
	}
	if len(demands) == 0 {
		return q.holdTenant(ctx, tenant)
	}
	_, t, err := scanTenant(q.queryRow(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`, tenant))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return state.ErrNoTenant
	case err != nil:
		return err
	case quota.None(t.GetLimits()):
		return q.holdTenant(ctx, tenant)
	}
	_, t, err = scanTenant(q.queryRow(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`+q.dialect.ForUpdate, tenant))
	if errors.Is(err, state.ErrNotFound) {
		return state.ErrNoTenant
	}
	if err != nil {
		return err
	}
	use, err := q.tenantUse(ctx, t, demands[0].At)
	if err != nil {
		return err
	}
	until, err := quota.Admit(tenant, t.GetLimits(), use, demands)
	if err != nil || until.Equal(use.CreatesUntil) {
		return err
	}
	if _, err := q.exec(ctx, `UPDATE tenants SET creates_until = ? WHERE name = ?`, nanos(until), tenant); err != nil {
		return fmt.Errorf("count creations of tenant %s: %w", tenant, err)
	}
	return nil
}

// tenantUse counts what a tenant has, and what it used if it has a budget.
func (q queries) tenantUse(ctx context.Context, t *brokerv1.Tenant, now time.Time) (u quota.Use, err error) {
	var until sql.NullInt64
	if err := q.queryRow(ctx, `SELECT creates_until FROM tenants WHERE name = ?`, t.GetName()).Scan(&until); err != nil {
		return u, fmt.Errorf("read creations of tenant %s: %w", t.GetName(), err)
	}
	u.CreatesUntil = fromNanos(until)
	budgeted := t.GetLimits().GetDaily() != nil || t.GetLimits().GetMonthly() != nil
	// Before what was used: what changes in between is counted twice then, rather than
	// not at all.
	err = q.eachHeld(ctx, t.GetName(), func(st providerv1.SandboxState, started bool, r *brokerv1.Rate) {
		u.Hold(st, r)
		if budgeted {
			u.Reserve(now, st, started, r)
		}
	})
	if err != nil {
		return u, fmt.Errorf("count sandboxes of tenant %s: %w", t.GetName(), err)
	}
	if !budgeted {
		return u, nil
	}
	today := metering.DayOf(now)
	used, err := q.used(ctx, state.UseFilter{Tenant: t.GetName(), First: today.Month(), Last: today}, now)
	for _, p := range used {
		u.Used.Spend(now, p.Currency, p.Piece)
	}
	return u, err
}

// eachHeld tells of each sandbox of a tenant that is not gone; started is true once
// it is counted.
func (q queries) eachHeld(ctx context.Context, tenant string, hold func(st providerv1.SandboxState, started bool, r *brokerv1.Rate)) (err error) {
	rows, err := q.query(ctx, `SELECT state, rate, phase_at FROM sandboxes WHERE tenant = ? AND gone = 0`, tenant)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var st providerv1.SandboxState
		var encoded []byte
		var since sql.NullInt64
		rate := &brokerv1.Rate{}
		if err := rows.Scan(&st, &encoded, &since); err != nil {
			return err
		}
		if err := proto.Unmarshal(encoded, rate); err != nil {
			return err
		}
		hold(st, since.Valid, rate)
	}
	return rows.Err()
}

// TenantUse returns what a tenant has and used.
func (s *Store) TenantUse(ctx context.Context, name string, now time.Time) (quota.Use, error) {
	t, err := s.Tenant(ctx, name)
	if err != nil {
		return quota.Use{}, err
	}
	return s.read.tenantUse(ctx, t, now)
}

// UpdateTenant stores what change makes of a tenant.
func (s *Store) UpdateTenant(ctx context.Context, name string, change func(*brokerv1.Tenant) error) (out *brokerv1.Tenant, err error) {
	err = s.inTx(ctx, func(tx queries) error {
		_, t, err := scanTenant(tx.queryRow(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`+tx.dialect.ForUpdate, name))
		if err != nil {
			return err
		}
		if err := change(t); err != nil {
			return err
		}
		t.Name = name
		body, err := proto.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode tenant %s: %w", name, err)
		}
		out = t
		res, err := tx.exec(ctx, `UPDATE tenants SET body = ?, enforced = ? WHERE name = ?`, notNil(body), flag(enforced(t.GetLimits())), name)
		return changedOne(res, err, "update tenant "+name)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func enforced(l *brokerv1.Limits) bool {
	return l.GetWhenSpent() > brokerv1.WhenSpent_WHEN_SPENT_NONE && (l.GetDaily() != nil || l.GetMonthly() != nil)
}

// EnforcedTenants returns those with an enforced budget.
func (s *Store) EnforcedTenants(ctx context.Context) (_ []*brokerv1.Tenant, err error) {
	rows, err := s.read.query(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE enforced = 1 ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("list tenants with enforced budgets: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []*brokerv1.Tenant
	for rows.Next() {
		_, t, err := scanTenant(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}
