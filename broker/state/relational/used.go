package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	usedColumns = `currency, basis, day, running_ms, paused_ms, cpu_us, memory_mib_ms, disk_mib_ms, starts, micros`

	addUsedSandboxSQL = `INSERT INTO used_sandboxes AS u (sandbox_id, name, tenant, provider, ` + usedColumns + `)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sandbox_id, day) DO UPDATE SET ` + addUsed
	addUsedDaySQL = `INSERT INTO used_days AS u (tenant, provider, ` + usedColumns + `)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, day, provider, currency, basis) DO UPDATE SET ` + addUsed
	addUsed = `running_ms = u.running_ms + excluded.running_ms, paused_ms = u.paused_ms + excluded.paused_ms,
cpu_us = u.cpu_us + excluded.cpu_us, memory_mib_ms = u.memory_mib_ms + excluded.memory_mib_ms,
disk_mib_ms = u.disk_mib_ms + excluded.disk_mib_ms, starts = u.starts + excluded.starts, micros = u.micros + excluded.micros`
)

// insertUsed adds what a sandbox used, by sandbox and by day. The days are in order
// for every caller, or two could wait for each other.
func insertUsed(ctx context.Context, tx queries, sb *state.Sandbox) error {
	price := sb.Body.GetRate().GetPrice()
	for _, p := range sb.Used {
		values := []any{
			sb.Tenant(), sb.Body.GetProvider(), price.GetCurrency(), int64(price.GetBasis()), int64(p.Day),
			p.RunningMillis, p.PausedMillis, p.CPUMicros, p.MemoryMiBMillis, p.DiskMiBMillis, p.Starts, p.Micros,
		}
		if _, err := tx.exec(ctx, addUsedSandboxSQL, append([]any{sb.ID(), sb.Body.GetName()}, values...)...); err != nil {
			return fmt.Errorf("store what sandbox %s used: %w", sb.ID(), err)
		}
		if _, err := tx.exec(ctx, addUsedDaySQL, values...); err != nil {
			return fmt.Errorf("store what was used on %s: %w", p.Day, err)
		}
	}
	return nil
}

// Used returns what was used.
func (s *Store) Used(ctx context.Context, f state.UseFilter, at time.Time) ([]state.Used, error) {
	return s.read.used(ctx, f, at)
}

// used reads what is stored and what is not yet by one statement: a stretch that
// ends meanwhile is in one of them, not in both or none.
func (q queries) used(ctx context.Context, f state.UseFilter, at time.Time) (_ []state.Used, err error) {
	query, args := usedQuery(f)
	rows, err := q.query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read what was used: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []state.Used
	for rows.Next() {
		var u state.Used
		var m metering.Meter
		var since sql.NullInt64
		var rate []byte
		if err := rows.Scan(&u.Tenant, &u.Provider, &u.SandboxID, &u.Name, &u.Currency, &u.Basis, &u.Day, &u.RunningMillis, &u.PausedMillis,
			&u.CPUMicros, &u.MemoryMiBMillis, &u.DiskMiBMillis, &u.Starts, &u.Micros, &m.Phase, &since, &rate); err != nil {
			return nil, fmt.Errorf("read what was used: %w", err)
		}
		if m.Phase == metering.Stopped {
			out = append(out, u)
			continue
		}
		m.Since = fromNanos(since)
		if out, err = appendOpen(out, u, m, rate, f, at); err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}

// appendOpen adds what a sandbox that lives used since its last change.
func appendOpen(out []state.Used, u state.Used, m metering.Meter, encoded []byte, f state.UseFilter, at time.Time) ([]state.Used, error) {
	rate := &brokerv1.Rate{}
	if err := proto.Unmarshal(encoded, rate); err != nil {
		return nil, fmt.Errorf("decode rate of sandbox %s: %w", u.SandboxID, err)
	}
	if !f.BySandbox {
		u.SandboxID, u.Name = "", ""
	}
	u.Currency, u.Basis = rate.GetPrice().GetCurrency(), rate.GetPrice().GetBasis()
	for _, p := range m.Until(at, rate) {
		if p.Day >= f.First && p.Day <= f.Last {
			u.Piece = p
			out = append(out, u)
		}
	}
	return out, nil
}

func usedQuery(f state.UseFilter) (string, []any) {
	from := `'' AS id, '' AS name, ` + usedColumns + `, 0 AS phase, NULL AS phase_at, NULL AS rate FROM used_days`
	if f.BySandbox {
		from = `sandbox_id AS id, name, ` + usedColumns + `, 0 AS phase, NULL AS phase_at, NULL AS rate FROM used_sandboxes`
	}
	args, where := []any{int64(f.First), int64(f.Last)}, ``
	if f.Tenant != "" {
		args = append(args, f.Tenant)
		where = ` AND tenant = ?3`
	}
	if f.Provider != "" {
		args = append(args, f.Provider)
		where += ` AND provider = ?` + strconv.Itoa(len(args))
	}
	return `SELECT tenant, provider, ` + from + ` WHERE day BETWEEN ?1 AND ?2` + where + `
		UNION ALL SELECT tenant, provider, id, name, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, phase, phase_at, rate
		FROM sandboxes WHERE gone = 0 AND phase <> 0` + where, args
}

// PurgeUsed drops what is known by sandbox of old days.
func (s *Store) PurgeUsed(ctx context.Context, before metering.Day) error {
	if _, err := s.write.exec(ctx, `DELETE FROM used_sandboxes WHERE day < ?`, int64(before)); err != nil {
		return fmt.Errorf("drop what sandboxes used before %s: %w", before, err)
	}
	return nil
}
