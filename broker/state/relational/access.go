package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// holdTenant keeps a tenant from being removed until the transaction ends.
func (q queries) holdTenant(ctx context.Context, name string) error {
	var one int
	err := q.queryRow(ctx, `SELECT 1 FROM tenants WHERE name = ?`+q.dialect.ForShare, name).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return state.ErrNoTenant
	}
	if err != nil {
		return fmt.Errorf("read tenant %s: %w", name, err)
	}
	return nil
}

// InsertTenant stores a new tenant.
func (s *Store) InsertTenant(ctx context.Context, t *brokerv1.Tenant) error {
	body, err := proto.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode tenant %s: %w", t.GetName(), err)
	}
	_, err = s.write.exec(ctx, `INSERT INTO tenants (name, body, enforced) VALUES (?, ?, ?)`, t.GetName(), notNil(body), flag(enforced(t.GetLimits())))
	if err != nil {
		return s.write.insertError(err, "tenants", t.GetName())
	}
	return nil
}

const tenantColumns = `seq, name, body`

func scanTenant(row scanner) (seq int64, _ *brokerv1.Tenant, err error) {
	t := &brokerv1.Tenant{}
	var name string
	var body []byte
	err = row.Scan(&seq, &name, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, state.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read tenant: %w", err)
	}
	if err := proto.Unmarshal(body, t); err != nil {
		return 0, nil, fmt.Errorf("decode tenant %s: %w", name, err)
	}
	t.Name = name
	return seq, t, nil
}

// Tenant returns one by name.
func (s *Store) Tenant(ctx context.Context, name string) (*brokerv1.Tenant, error) {
	_, t, err := scanTenant(s.read.queryRow(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`, name))
	return t, err
}

// ListTenants returns one page of tenants.
func (s *Store) ListTenants(ctx context.Context, p state.Page) ([]*brokerv1.Tenant, string, error) {
	return page(ctx, s.read, "tenants", p, scanTenant, `SELECT `+tenantColumns+` FROM tenants WHERE seq < ?`)
}

// page reads one page of a listing by seq, the newest first. The query ends in a
// condition and has the place before which the page is as its first argument.
func page[T any](ctx context.Context, q queries, what string, p state.Page, scan func(scanner) (int64, T, error), query string, args ...any) (_ []T, _ string, err error) {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %q", what, args)
	before, err := parseToken(p.Token, h.Sum32())
	if err != nil {
		return nil, "", err
	}
	all := append([]any{before}, args...)
	rows, err := q.query(ctx, query+` ORDER BY seq DESC LIMIT ?`, append(all, p.Size+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []T
	var last int64
	for rows.Next() {
		if len(out) == p.Size {
			return out, token(last, h.Sum32()), nil
		}
		seq, t, err := scan(rows)
		if err != nil {
			return nil, "", err
		}
		out, last = append(out, t), seq
	}
	return out, "", rows.Err()
}

// RemoveTenant drops a tenant that has nothing, and what is left of what it had.
func (s *Store) RemoveTenant(ctx context.Context, name string) error {
	return s.inTx(ctx, func(tx queries) error {
		// Whoever inserts for the tenant holds its row, or waits for this lock and then
		// finds it gone; so what is counted below is all there will be.
		if err := tx.hold(ctx, `SELECT 1 FROM tenants WHERE name = ?`, name); err != nil {
			return fmt.Errorf("lock tenant %s: %w", name, err)
		}
		var has int
		err := tx.queryRow(ctx, `SELECT count(*) FROM (
			SELECT 1 AS n FROM sandboxes WHERE tenant = ?1 AND gone = 0 UNION ALL SELECT 1 AS n FROM snapshots WHERE tenant = ?1) has`, name).Scan(&has)
		if err != nil {
			return fmt.Errorf("count what tenant %s has: %w", name, err)
		}
		if has > 0 {
			return state.ErrTenantInUse
		}
		for _, query := range []string{
			`DELETE FROM sandboxes WHERE tenant = ?`, `DELETE FROM requests WHERE tenant = ?`,
			`DELETE FROM used_sandboxes WHERE tenant = ?`, `DELETE FROM used_days WHERE tenant = ?`,
		} {
			if _, err := tx.exec(ctx, query, name); err != nil {
				return fmt.Errorf("remove what tenant %s had: %w", name, err)
			}
		}
		res, err := tx.exec(ctx, `DELETE FROM tenants WHERE name = ?`, name)
		return changedOne(res, err, "remove tenant "+name)
	})
}

func changedOne(res sql.Result, err error, what string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n == 0 {
		return state.ErrNotFound
	}
	return nil
}

// InsertKey stores a new key.
func (s *Store) InsertKey(ctx context.Context, k *state.Key) error {
	body, err := proto.Marshal(k.Body)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", k.ID(), err)
	}
	return s.inTx(ctx, func(tx queries) error {
		if err := tx.holdTenant(ctx, k.Body.GetTenant()); err != nil {
			return err
		}
		_, err := tx.exec(ctx, `INSERT INTO api_keys (id, tenant, hash, body) VALUES (?, ?, ?, ?)`,
			k.ID(), k.Body.GetTenant(), notNil(k.Hash), body)
		if err != nil {
			return fmt.Errorf("store key %s: %w", k.ID(), err)
		}
		return nil
	})
}

const keyColumns = `seq, hash, body`

func scanKey(row scanner) (seq int64, _ *state.Key, err error) {
	k := &state.Key{Body: &brokerv1.APIKey{}}
	var body []byte
	err = row.Scan(&seq, &k.Hash, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, state.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read key: %w", err)
	}
	if err := proto.Unmarshal(body, k.Body); err != nil {
		return 0, nil, fmt.Errorf("decode key: %w", err)
	}
	return seq, k, nil
}

// Key returns one by id.
func (s *Store) Key(ctx context.Context, id string) (*state.Key, error) {
	_, k, err := scanKey(s.read.queryRow(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE id = ?`, id))
	return k, err
}

// UpdateKey replaces what users see of a key.
func (s *Store) UpdateKey(ctx context.Context, key *brokerv1.APIKey) error {
	body, err := proto.Marshal(key)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", key.GetKeyId(), err)
	}
	res, err := s.write.exec(ctx, `UPDATE api_keys SET body = ? WHERE id = ?`, body, key.GetKeyId())
	return changedOne(res, err, "update key "+key.GetKeyId())
}

// ListKeys returns one page of keys.
func (s *Store) ListKeys(ctx context.Context, tenant string, p state.Page) ([]*state.Key, string, error) {
	query := `SELECT ` + keyColumns + ` FROM api_keys WHERE seq < ?`
	if tenant == "" {
		return page(ctx, s.read, "keys", p, scanKey, query)
	}
	return page(ctx, s.read, "keys", p, scanKey, query+` AND tenant = ?`, tenant)
}
