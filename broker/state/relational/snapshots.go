package relational

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func insertRequest(ctx context.Context, tx queries, req *state.Request) error {
	if req == nil {
		return nil
	}
	ids, err := json.Marshal(req.IDs)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	_, err = tx.exec(ctx, `INSERT INTO requests (key, tenant, digest, ids, at) VALUES (?, ?, ?, ?, ?)`,
		req.Key, req.Tenant, notNil(req.Digest), string(ids), req.At.UnixNano())
	if tx.dialect.refused(err, "requests", "key") {
		return state.ErrKeyTaken
	}
	if err != nil {
		return fmt.Errorf("insert request: %w", err)
	}
	return nil
}

// Request returns a tenant's request with a key.
func (s *Store) Request(ctx context.Context, tenant, key string) (*state.Request, error) {
	req := &state.Request{Tenant: tenant, Key: key}
	var ids string
	var at int64
	err := s.read.queryRow(ctx, `SELECT digest, ids, at FROM requests WHERE key = ? AND tenant = ?`, key, tenant).Scan(&req.Digest, &ids, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, state.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal([]byte(ids), &req.IDs); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	req.At = time.Unix(0, at).UTC()
	return req, nil
}

// snapshotParts are the encoded columns of a snapshot.
type snapshotParts struct{ handle, spec, body []byte }

func encodeSnapshot(sn *state.Snapshot) (p snapshotParts, err error) {
	if sn.Handle != nil {
		if p.handle, err = proto.Marshal(sn.Handle); err != nil {
			return p, fmt.Errorf("encode handle of snapshot %s: %w", sn.ID(), err)
		}
		p.handle = notNil(p.handle)
	}
	if sn.Spec != nil {
		if p.spec, err = proto.Marshal(sn.Spec); err != nil {
			return p, fmt.Errorf("encode spec of snapshot %s: %w", sn.ID(), err)
		}
		p.spec = notNil(p.spec)
	}
	if p.body, err = proto.Marshal(sn.Body); err != nil {
		return p, fmt.Errorf("encode snapshot %s: %w", sn.ID(), err)
	}
	return p, nil
}

// InsertSnapshot stores a new snapshot.
func (s *Store) InsertSnapshot(ctx context.Context, req *state.Request, sn *state.Snapshot) error {
	p, err := encodeSnapshot(sn)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx queries) error {
		if err := insertRequest(ctx, tx, req); err != nil {
			return err
		}
		if err := tx.holdTenant(ctx, sn.Tenant()); err != nil {
			return err
		}
		_, err := tx.exec(ctx, `INSERT INTO snapshots
			(id, name, sandbox_id, ready, op_key, op_digest, request_key, handle, spec, body, tenant, deleting) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			sn.ID(), sn.Body.GetName(), sn.Body.GetSandboxId(), flag(sn.Ready), sn.Operation.GetIdempotencyKey(),
			notNil(sn.Operation.GetRequestDigest()), sn.RequestKey, p.handle, p.spec, p.body, sn.Tenant(), flag(sn.Deleting))
		if err != nil {
			return tx.insertError(err, "snapshots", sn.ID())
		}
		return nil
	})
}

const snapshotColumns = `seq, ready, deleting, op_key, op_digest, request_key, handle, spec, body, tenant`

func scanSnapshot(row scanner) (seq int64, _ *state.Snapshot, err error) {
	sn := &state.Snapshot{Operation: &providerv1.Operation{}, Body: &brokerv1.Snapshot{}}
	var p snapshotParts
	var tenant string
	err = row.Scan(&seq, &sn.Ready, &sn.Deleting, &sn.Operation.IdempotencyKey, &sn.Operation.RequestDigest, &sn.RequestKey, &p.handle, &p.spec, &p.body, &tenant)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, state.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read snapshot: %w", err)
	}
	if p.handle != nil {
		sn.Handle = &providerv1.Handle{}
		if err := proto.Unmarshal(p.handle, sn.Handle); err != nil {
			return 0, nil, fmt.Errorf("decode handle of snapshot: %w", err)
		}
	}
	if p.spec != nil {
		sn.Spec = &providerv1.SandboxSpec{}
		if err := proto.Unmarshal(p.spec, sn.Spec); err != nil {
			return 0, nil, fmt.Errorf("decode spec of snapshot: %w", err)
		}
	}
	if err := proto.Unmarshal(p.body, sn.Body); err != nil {
		return 0, nil, fmt.Errorf("decode snapshot: %w", err)
	}
	sn.Body.Tenant = tenant // which bodies of old do not say
	return seq, sn, nil
}

// Snapshot returns one by id.
func (s *Store) Snapshot(ctx context.Context, id string) (*state.Snapshot, error) {
	_, sn, err := scanSnapshot(s.read.queryRow(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE id = ?`, id))
	return sn, err
}

// SnapshotNamed returns a tenant's by name.
func (s *Store) SnapshotNamed(ctx context.Context, tenant, name string) (*state.Snapshot, error) {
	_, sn, err := scanSnapshot(s.read.queryRow(ctx, `SELECT `+snapshotColumns+` FROM snapshots WHERE name = ? AND tenant = ? AND name <> ''`, name, tenant))
	return sn, err
}

// UpdateSnapshot replaces what is stored.
func (s *Store) UpdateSnapshot(ctx context.Context, sn *state.Snapshot) error {
	p, err := encodeSnapshot(sn)
	if err != nil {
		return err
	}
	res, err := s.write.exec(ctx, `UPDATE snapshots SET ready = ?, deleting = ?, handle = ?, spec = ?, body = ? WHERE id = ?`,
		flag(sn.Ready), flag(sn.Deleting), p.handle, p.spec, p.body, sn.ID())
	if err != nil {
		return fmt.Errorf("update snapshot %s: %w", sn.ID(), err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("update snapshot %s: %w", sn.ID(), err)
	}
	if n == 0 {
		return state.ErrNotFound
	}
	return nil
}

// RemoveSnapshot drops one and its request.
func (s *Store) RemoveSnapshot(ctx context.Context, id string) error {
	return s.inTx(ctx, func(tx queries) error {
		var key, tenant string
		err := tx.queryRow(ctx, `DELETE FROM snapshots WHERE id = ? RETURNING request_key, tenant`, id).Scan(&key, &tenant)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil && key != "" {
			_, err = tx.exec(ctx, `DELETE FROM requests WHERE key = ? AND tenant = ?`, key, tenant)
		}
		if err != nil {
			return fmt.Errorf("remove snapshot %s: %w", id, err)
		}
		return nil
	})
}

// ListSnapshots returns one page of snapshots.
func (s *Store) ListSnapshots(ctx context.Context, f state.SnapshotFilter, p state.Page) (_ []*state.Snapshot, _ string, err error) {
	h := fnv.New32a()
	fmt.Fprintf(h, "snapshots %q %q", f.Tenant, f.SandboxID)
	if f.Open { // tokens of old have no word of it
		fmt.Fprint(h, " open")
	}
	before, err := parseToken(p.Token, h.Sum32())
	if err != nil {
		return nil, "", err
	}
	where, args := ``, []any{before}
	if f.Tenant != "" {
		where, args = where+` AND tenant = ?`, append(args, f.Tenant)
	}
	if f.SandboxID != "" {
		where, args = where+` AND sandbox_id = ?`, append(args, f.SandboxID)
	}
	if f.Open {
		where += ` AND (ready = 0 OR deleting = 1)`
	}
	rows, err := s.read.query(ctx, `SELECT `+snapshotColumns+` FROM snapshots
		WHERE seq < ?`+where+` ORDER BY seq DESC LIMIT ?`, append(args, p.Size+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("list snapshots: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []*state.Snapshot
	var last int64
	for rows.Next() {
		if len(out) == p.Size {
			return out, token(last, h.Sum32()), nil
		}
		seq, sn, err := scanSnapshot(rows)
		if err != nil {
			return nil, "", err
		}
		out, last = append(out, sn), seq
	}
	return out, "", rows.Err()
}
