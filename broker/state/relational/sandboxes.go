package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// InsertSandboxes stores new sandboxes.
func (s *Store) InsertSandboxes(ctx context.Context, req *state.Request, sandboxes ...*state.Sandbox) error {
	err := s.inTx(ctx, func(tx queries) error {
		if err := insertRequest(ctx, tx, req); err != nil {
			return err
		}
		if len(sandboxes) > 0 {
			if err := tx.admit(ctx, sandboxes[0].Tenant(), sandboxes...); err != nil {
				return err
			}
		}
		for _, sb := range sandboxes {
			if err := s.insertSandbox(ctx, tx, sb); err != nil {
				return err
			}
			if err := insertEvents(ctx, tx, sb.Events); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for _, sb := range sandboxes {
			sb.Events, sb.Admission = nil, nil
		}
	}
	return err
}

const insertSandboxSQL = `INSERT INTO sandboxes
(id, name, provider, state, pending, prior, reason, gone, gone_at, op_key, op_digest, request_key,
 retry_at, attempts, expires_at, idle_ns, last_active_at, due_at, version, body, tenant, phase, phase_at, rate)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq`

func (s *Store) insertSandbox(ctx context.Context, tx queries, sb *state.Sandbox) error {
	body, err := proto.Marshal(sb.Body)
	if err != nil {
		return fmt.Errorf("encode sandbox %s: %w", sb.ID(), err)
	}
	rate, err := encodeRate(sb)
	if err != nil {
		return err
	}
	st := sb.Status
	var seq int64
	insert := tx.tx.StmtContext(ctx, s.insert)
	defer insert.Close()
	err = insert.QueryRowContext(ctx,
		sb.ID(), sb.Body.GetName(), sb.Body.GetProvider(), int64(st.State), int64(st.Pending), int64(st.Prior), st.Reason,
		flag(st.Gone), nanos(sb.GoneAt), sb.Operation.GetIdempotencyKey(), notNil(sb.Operation.GetRequestDigest()), sb.RequestKey,
		nanos(sb.RetryAt), sb.Attempts, nanos(sb.Expires()), idleNanos(sb), sb.LastActive().UnixNano(), nanos(sb.DueAt()), sb.Version, body,
		sb.Tenant(), int64(sb.Meter.Phase), nanos(sb.Meter.Since), rate).Scan(&seq)
	if err != nil {
		return tx.insertError(err, "sandboxes", sb.ID())
	}
	if err := insertPlacement(ctx, tx, seq, sb.Placement); err != nil {
		return fmt.Errorf("insert placement of sandbox %s: %w", sb.ID(), err)
	}
	if err := insertLabels(ctx, tx, seq, sb.Body.GetLabels()); err != nil {
		return fmt.Errorf("insert labels of sandbox %s: %w", sb.ID(), err)
	}
	return nil
}

// encodeRate returns the rate as it is stored beside the body.
func encodeRate(sb *state.Sandbox) ([]byte, error) {
	rate, err := proto.Marshal(sb.Body.GetRate())
	if err != nil {
		return nil, fmt.Errorf("encode rate of sandbox %s: %w", sb.ID(), err)
	}
	return notNil(rate), nil
}

// insertLabels stores all labels by one statement.
func insertLabels(ctx context.Context, tx queries, seq int64, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	args := make([]any, 0, 3*len(labels))
	for k, v := range labels {
		args = append(args, k, v, seq)
	}
	_, err := tx.exec(ctx, `INSERT INTO sandbox_labels (key, value, seq) VALUES (?, ?, ?)`+strings.Repeat(`, (?, ?, ?)`, len(labels)-1), args...)
	return err
}

// insertError tells a name that is taken from trouble.
func (q queries) insertError(err error, table, id string) error {
	if q.dialect.refused(err, table, "name") {
		return state.ErrNameTaken
	}
	return fmt.Errorf("store %s in %s: %w", id, table, err)
}

func idleNanos(sb *state.Sandbox) int64 {
	return int64(sb.Body.GetIdle().GetTimeout().AsDuration())
}

const sandboxColumns = `s.seq, s.state, s.pending, s.prior, s.reason, s.gone, s.gone_at, s.op_key, s.op_digest, s.request_key,
s.retry_at, s.attempts, s.last_active_at, s.version, s.body, s.tenant, s.phase, s.phase_at`

type scanner interface{ Scan(dest ...any) error }

func scanSandbox(row scanner) (seq int64, _ *state.Sandbox, err error) {
	sb := &state.Sandbox{Operation: &providerv1.Operation{}, Body: &brokerv1.Sandbox{}}
	var (
		goneAt, retryAt sql.NullInt64
		since           sql.NullInt64
		lastActive      int64
		body            []byte
		tenant          string
		st              = &sb.Status
	)
	err = row.Scan(&seq, &st.State, &st.Pending, &st.Prior, &st.Reason, &st.Gone, &goneAt,
		&sb.Operation.IdempotencyKey, &sb.Operation.RequestDigest, &sb.RequestKey, &retryAt, &sb.Attempts, &lastActive, &sb.Version, &body, &tenant,
		&sb.Meter.Phase, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, state.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read sandbox: %w", err)
	}
	if err := proto.Unmarshal(body, sb.Body); err != nil {
		return 0, nil, fmt.Errorf("decode sandbox: %w", err)
	}
	sb.GoneAt, sb.RetryAt, sb.Meter.Since = fromNanos(goneAt), fromNanos(retryAt), fromNanos(since)
	sb.Body.LastActiveAt = timestamppb.New(time.Unix(0, lastActive))
	sb.Body.Tenant = tenant // which bodies of old do not say
	return seq, sb, nil
}

// Sandbox returns one by id.
func (s *Store) Sandbox(ctx context.Context, id string) (*state.Sandbox, error) {
	_, sb, err := scanSandbox(s.byID.QueryRowContext(ctx, id))
	return sb, err
}

// SandboxNamed returns a tenant's live one by name.
func (s *Store) SandboxNamed(ctx context.Context, tenant, name string) (*state.Sandbox, error) {
	_, sb, err := scanSandbox(s.byName.QueryRowContext(ctx, name, tenant))
	return sb, err
}

const updateSandboxSQL = `UPDATE sandboxes SET
name = ?1, state = ?2, pending = ?3, prior = ?4, reason = ?5, gone = ?6, gone_at = ?7, retry_at = ?8, attempts = ?9,
expires_at = ?10, idle_ns = ?11, last_active_at = CASE WHEN last_active_at > ?12 THEN last_active_at ELSE ?12 END,
due_at = ?13, version = version + 1, body = ?14, phase = ?17, phase_at = ?18, rate = ?19
WHERE id = ?15 AND version = ?16`

// UpdateSandbox stores s if its version is the stored one.
func (s *Store) UpdateSandbox(ctx context.Context, sb *state.Sandbox) error {
	if len(sb.Events) == 0 && len(sb.Used) == 0 && sb.Admission == nil && sb.Heir == nil { // one statement is a transaction of its own
		if err := s.updateSandbox(ctx, s.update, sb); err != nil {
			return err
		}
		sb.Version++
		return nil
	}
	changes := []*state.Sandbox{sb}
	if sb.Heir != nil {
		changes = append(changes, sb.Heir)
	}
	err := s.inTx(ctx, func(tx queries) error {
		for _, sb := range changes {
			if err := s.storeChange(ctx, tx, sb); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, sb := range changes {
		sb.Version++
		sb.Events, sb.Used, sb.Admission, sb.Heir = nil, nil, nil, nil
	}
	return nil
}

// storeChange stores sb with all that goes with it but its heir.
func (s *Store) storeChange(ctx context.Context, tx queries, sb *state.Sandbox) error {
	if sb.Admission != nil {
		if err := tx.admit(ctx, sb.Tenant(), sb); err != nil {
			return err
		}
	}
	update := tx.tx.StmtContext(ctx, s.update)
	defer update.Close()
	if err := s.updateSandbox(ctx, update, sb); err != nil {
		return err
	}
	if err := insertUsed(ctx, tx, sb); err != nil {
		return err
	}
	return insertEvents(ctx, tx, sb.Events)
}

func (s *Store) updateSandbox(ctx context.Context, update *sql.Stmt, sb *state.Sandbox) error {
	body, err := proto.Marshal(sb.Body)
	if err != nil {
		return fmt.Errorf("encode sandbox %s: %w", sb.ID(), err)
	}
	rate, err := encodeRate(sb)
	if err != nil {
		return err
	}
	st := sb.Status
	res, err := update.ExecContext(ctx,
		sb.Body.GetName(), int64(st.State), int64(st.Pending), int64(st.Prior), st.Reason, flag(st.Gone), nanos(sb.GoneAt), nanos(sb.RetryAt), sb.Attempts,
		nanos(sb.Expires()), idleNanos(sb), sb.LastActive().UnixNano(), nanos(sb.DueAt()), body, sb.ID(), sb.Version,
		int64(sb.Meter.Phase), nanos(sb.Meter.Since), rate)
	if err != nil {
		return s.write.insertError(err, "sandboxes", sb.ID())
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("update sandbox %s: %w", sb.ID(), err)
	}
	if n == 0 {
		return state.ErrConflict
	}
	return nil
}

// The time it falls due moves along with its use, as state.Sandbox.DueAt has it.
const touchSandboxSQL = `UPDATE sandboxes SET last_active_at = ?1,
due_at = CASE WHEN retry_at IS NOT NULL OR idle_ns <= 0 OR state <> ?3 THEN due_at
  WHEN expires_at < ?1 + idle_ns THEN expires_at ELSE ?1 + idle_ns END
WHERE id = ?2 AND gone = 0 AND last_active_at < ?1`

// TouchSandbox records use.
func (s *Store) TouchSandbox(ctx context.Context, id string, at time.Time) error {
	_, err := s.write.exec(ctx, touchSandboxSQL, at.UnixNano(), id, int64(providerv1.SandboxState_SANDBOX_STATE_RUNNING))
	if err != nil {
		return fmt.Errorf("touch sandbox %s: %w", id, err)
	}
	return nil
}

// RemoveSandbox drops a sandbox and stores what it has to tell.
func (s *Store) RemoveSandbox(ctx context.Context, sb *state.Sandbox) error {
	err := s.inTx(ctx, func(tx queries) error {
		if err := removeSandbox(ctx, tx, sb.ID()); err != nil {
			return fmt.Errorf("remove sandbox %s: %w", sb.ID(), err)
		}
		return insertEvents(ctx, tx, sb.Events)
	})
	if err == nil {
		sb.Events = nil
	}
	return err
}

func removeSandbox(ctx context.Context, tx queries, id string) error {
	var key, tenant string
	err := tx.queryRow(ctx, `DELETE FROM sandboxes WHERE id = ? RETURNING request_key, tenant`, id).Scan(&key, &tenant)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil || key == "" {
		return err
	}
	// Of several who remove the last sandboxes of a request at once, the lock makes
	// one the last, who sees that there are no others.
	if err := tx.hold(ctx, `SELECT 1 FROM requests WHERE key = ? AND tenant = ?`, key, tenant); err != nil {
		return err
	}
	_, err = tx.exec(ctx, `DELETE FROM requests WHERE key = ?1 AND tenant = ?2
		AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE request_key = ?1 AND request_key <> '' AND tenant = ?2)`, key, tenant)
	return err
}

// DueSandboxes returns sandboxes that the reconciler has to look at.
func (s *Store) DueSandboxes(ctx context.Context, now time.Time, limit int) ([]*state.Sandbox, error) {
	rows, err := s.read.query(ctx, `SELECT `+sandboxColumns+` FROM sandboxes s
		WHERE s.due_at IS NOT NULL AND s.due_at <= ? ORDER BY s.due_at LIMIT ?`, now.UnixNano(), limit)
	if err != nil {
		return nil, fmt.Errorf("list due sandboxes: %w", err)
	}
	out, _, err := collect(rows, limit)
	return out, err
}

// collect reads at most limit rows. more is the position of the last one if
// there was another after it, else 0.
func collect(rows *sql.Rows, limit int) (_ []*state.Sandbox, more int64, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []*state.Sandbox
	var last int64
	for rows.Next() {
		if len(out) == limit {
			return out, last, nil
		}
		seq, sb, err := scanSandbox(rows)
		if err != nil {
			return nil, 0, err
		}
		out, last = append(out, sb), seq
	}
	return out, 0, rows.Err()
}

// NextDue returns the earliest due time.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	var due sql.NullInt64
	err := s.read.queryRow(ctx, `SELECT min(due_at) FROM sandboxes WHERE due_at IS NOT NULL`).Scan(&due)
	if err != nil {
		return time.Time{}, fmt.Errorf("read next due time: %w", err)
	}
	return fromNanos(due), nil
}

// PurgeGone drops old tombstones and requests.
func (s *Store) PurgeGone(ctx context.Context, cutoff time.Time) error {
	return s.inTx(ctx, func(tx queries) error {
		if _, err := tx.exec(ctx, `DELETE FROM sandboxes WHERE gone = 1 AND gone_at < ?`, cutoff.UnixNano()); err != nil {
			return fmt.Errorf("purge sandboxes: %w", err)
		}
		_, err := tx.exec(ctx, `DELETE FROM requests WHERE at < ?
			AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE request_key = requests.key AND request_key <> '' AND tenant = requests.tenant)
			AND NOT EXISTS (SELECT 1 FROM snapshots WHERE request_key = requests.key AND request_key <> '' AND tenant = requests.tenant)`, cutoff.UnixNano())
		if err != nil {
			return fmt.Errorf("purge requests: %w", err)
		}
		return nil
	})
}
