package relational

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// InsertWebhook stores a new webhook.
func (s *Store) InsertWebhook(ctx context.Context, w *state.Webhook) error {
	body, err := proto.Marshal(w.Body)
	if err != nil {
		return fmt.Errorf("encode webhook %s: %w", w.ID(), err)
	}
	return s.inTx(ctx, func(tx queries) error {
		if err := tx.holdTenant(ctx, w.Body.GetTenant()); err != nil {
			return err
		}
		_, err := tx.exec(ctx, `INSERT INTO webhooks (id, tenant, disabled, secret, previous_secret, holder, held_until, version, body)
			VALUES (?, ?, ?, ?, ?, '', 0, ?, ?)`,
			w.ID(), w.Body.GetTenant(), flag(w.Disabled()), notNil(w.Secret), notNil(w.Previous), w.Version, body)
		if err != nil {
			return fmt.Errorf("store webhook %s: %w", w.ID(), err)
		}
		return nil
	})
}

const webhookColumns = `seq, secret, previous_secret, holder, version, body`

func scanWebhook(row scanner) (seq int64, _ *state.Webhook, err error) {
	w := &state.Webhook{Body: &brokerv1.Webhook{}}
	var body []byte
	err = row.Scan(&seq, &w.Secret, &w.Previous, &w.Holder, &w.Version, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, state.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read webhook: %w", err)
	}
	if err := proto.Unmarshal(body, w.Body); err != nil {
		return 0, nil, fmt.Errorf("decode webhook: %w", err)
	}
	return seq, w, nil
}

// Webhook returns one by id.
func (s *Store) Webhook(ctx context.Context, id string) (*state.Webhook, error) {
	_, w, err := scanWebhook(s.read.queryRow(ctx, `SELECT `+webhookColumns+` FROM webhooks WHERE id = ?`, id))
	return w, err
}

// ListWebhooks returns one page of webhooks.
func (s *Store) ListWebhooks(ctx context.Context, tenant string, p state.Page) ([]*state.Webhook, string, error) {
	query := `SELECT ` + webhookColumns + ` FROM webhooks WHERE seq < ?`
	if tenant == "" {
		return page(ctx, s.read, "webhooks", p, scanWebhook, query)
	}
	return page(ctx, s.read, "webhooks", p, scanWebhook, query+` AND tenant = ?`, tenant)
}

// UpdateWebhook stores w if its version is the stored one.
func (s *Store) UpdateWebhook(ctx context.Context, w *state.Webhook) error {
	body, err := proto.Marshal(w.Body)
	if err != nil {
		return fmt.Errorf("encode webhook %s: %w", w.ID(), err)
	}
	err = s.inTx(ctx, func(tx queries) error {
		res, err := tx.exec(ctx, `UPDATE webhooks SET disabled = ?, secret = ?, previous_secret = ?, body = ?, version = version + 1
			WHERE id = ? AND version = ?`, flag(w.Disabled()), notNil(w.Secret), notNil(w.Previous), body, w.ID(), w.Version)
		if err := changedOne(res, err, "update webhook "+w.ID()); errors.Is(err, state.ErrNotFound) {
			return state.ErrConflict
		} else if err != nil {
			return err
		}
		return insertEvents(ctx, tx, w.Events)
	})
	if err != nil {
		return err
	}
	w.Version++
	w.Events = nil
	return nil
}

// RemoveWebhook drops a webhook.
func (s *Store) RemoveWebhook(ctx context.Context, id string) error {
	res, err := s.write.exec(ctx, `DELETE FROM webhooks WHERE id = ?`, id)
	return changedOne(res, err, "remove webhook "+id)
}

// HoldWebhooks keeps what a holder has, and takes what nobody has. A new holder is
// a new version, so that what the one before it still does is not stored.
func (s *Store) HoldWebhooks(ctx context.Context, holder string, now, until time.Time) (map[string]int64, error) {
	var held map[string]int64
	err := s.inTx(ctx, func(tx queries) error {
		held = make(map[string]int64)
		err := tx.versions(ctx, held, `UPDATE webhooks SET held_until = ? WHERE holder = ? AND disabled = 0 RETURNING id, version`,
			until.UnixNano(), holder)
		if err != nil {
			return err
		}
		return tx.versions(ctx, held, `UPDATE webhooks SET holder = ?, held_until = ?, version = version + 1
			WHERE holder <> ? AND held_until <= ? AND disabled = 0 RETURNING id, version`, holder, until.UnixNano(), holder, now.UnixNano())
	})
	if err != nil {
		return nil, fmt.Errorf("hold webhooks: %w", err)
	}
	return held, nil
}

// versions adds the ids and versions that a statement returns.
func (q queries) versions(ctx context.Context, to map[string]int64, query string, args ...any) (err error) {
	rows, err := q.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var version int64
		if err := rows.Scan(&id, &version); err != nil {
			return err
		}
		to[id] = version
	}
	return rows.Err()
}

// ReleaseWebhooks gives up what a holder has.
func (s *Store) ReleaseWebhooks(ctx context.Context, holder string) error {
	if _, err := s.write.exec(ctx, `UPDATE webhooks SET held_until = 0 WHERE holder = ?`, holder); err != nil {
		return fmt.Errorf("release webhooks: %w", err)
	}
	return nil
}
