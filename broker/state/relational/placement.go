package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func insertPlacement(ctx context.Context, tx queries, seq int64, p *brokerv1.Placement) error {
	if p == nil {
		return nil
	}
	body, err := proto.Marshal(p)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO placements (seq, body) VALUES (?, ?)`, seq, body)
	return err
}

// Placement returns why a sandbox is where it is.
func (s *Store) Placement(ctx context.Context, id string) (*brokerv1.Placement, error) {
	var body []byte
	err := s.read.queryRow(ctx, `SELECT p.body FROM sandboxes s LEFT JOIN placements p ON p.seq = s.seq WHERE s.id = ?`, id).Scan(&body)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, state.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("read placement of sandbox %s: %w", id, err)
	case body == nil:
		return nil, nil
	}
	p := &brokerv1.Placement{}
	if err := proto.Unmarshal(body, p); err != nil {
		return nil, fmt.Errorf("decode placement of sandbox %s: %w", id, err)
	}
	return p, nil
}

// CountSandboxes counts live sandboxes by provider, from an index alone.
func (s *Store) CountSandboxes(ctx context.Context) (_ map[string]int, err error) {
	rows, err := s.read.query(ctx, `SELECT provider, count(*) FROM sandboxes WHERE gone = 0 GROUP BY provider`)
	if err != nil {
		return nil, fmt.Errorf("count sandboxes: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out := make(map[string]int)
	for rows.Next() {
		var provider string
		var n int
		if err := rows.Scan(&provider, &n); err != nil {
			return nil, fmt.Errorf("count sandboxes: %w", err)
		}
		out[provider] = n
	}
	return out, rows.Err()
}

// CountStates counts live sandboxes by provider and state.
func (s *Store) CountStates(ctx context.Context) (_ map[string]map[providerv1.SandboxState]int, err error) {
	rows, err := s.read.query(ctx, `SELECT provider, state, count(*) FROM sandboxes WHERE gone = 0 GROUP BY provider, state`)
	if err != nil {
		return nil, fmt.Errorf("count sandboxes by state: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out := make(map[string]map[providerv1.SandboxState]int)
	for rows.Next() {
		var provider string
		var st providerv1.SandboxState
		var n int
		if err := rows.Scan(&provider, &st, &n); err != nil {
			return nil, fmt.Errorf("count sandboxes by state: %w", err)
		}
		if out[provider] == nil {
			out[provider] = make(map[providerv1.SandboxState]int)
		}
		out[provider][st] = n
	}
	return out, rows.Err()
}

// CountDue counts what is due, from an index alone.
func (s *Store) CountDue(ctx context.Context, now time.Time) (n int, err error) {
	err = s.read.queryRow(ctx, `SELECT count(*) FROM sandboxes WHERE due_at IS NOT NULL AND due_at <= ?`, now.UnixNano()).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count due sandboxes: %w", err)
	}
	return n, nil
}

// Measurements returns what is stored about providers.
func (s *Store) Measurements(ctx context.Context) (_ map[string]placement.Measurement, err error) {
	rows, err := s.read.query(ctx, `SELECT provider, good, bad, seconds, at, streak, open_until, openings, cool_until FROM measurements`)
	if err != nil {
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out := make(map[string]placement.Measurement)
	for rows.Next() {
		var provider string
		var m placement.Measurement
		var at, open, cool sql.NullInt64
		if err := rows.Scan(&provider, &m.Good, &m.Bad, &m.Seconds, &at, &m.Streak, &open, &m.Openings, &cool); err != nil {
			return nil, fmt.Errorf("read measurements: %w", err)
		}
		m.At, m.OpenUntil, m.CoolUntil = fromNanos(at), fromNanos(open), fromNanos(cool)
		out[provider] = m
	}
	return out, rows.Err()
}

const putMeasurementSQL = `INSERT INTO measurements
(provider, good, bad, seconds, at, streak, open_until, openings, cool_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider) DO UPDATE SET good = excluded.good, bad = excluded.bad, seconds = excluded.seconds, at = excluded.at,
streak = excluded.streak, open_until = excluded.open_until, openings = excluded.openings, cool_until = excluded.cool_until`

// PutMeasurements stores measurements of providers.
func (s *Store) PutMeasurements(ctx context.Context, all map[string]placement.Measurement) error {
	return s.inTx(ctx, func(tx queries) error {
		for _, provider := range slices.Sorted(maps.Keys(all)) { // all callers in one order, or two could wait for each other
			m := all[provider]
			_, err := tx.exec(ctx, putMeasurementSQL, provider, m.Good, m.Bad, m.Seconds, nanos(m.At),
				m.Streak, nanos(m.OpenUntil), m.Openings, nanos(m.CoolUntil))
			if err != nil {
				return fmt.Errorf("store measurement of %s: %w", provider, err)
			}
		}
		return nil
	})
}
