package relational

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// insertEvents stores what sandboxes have to tell. They have told it then.
func insertEvents(ctx context.Context, tx queries, events []*brokerv1.Event) error {
	for _, e := range events {
		body, err := proto.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		if _, err := tx.exec(ctx, `INSERT INTO events (at, body) VALUES (?, ?)`, e.GetAt().AsTime().UnixNano(), body); err != nil {
			return fmt.Errorf("store event: %w", err)
		}
	}
	return nil
}

// position is where a reader of events stands: behind the event with these
// numbers.
type position struct{ txid, seq int64 }

func (p position) before(q position) bool {
	return p.txid < q.txid || p.txid == q.txid && p.seq < q.seq
}

const cursorLength = 20

// cursor writes a position for clients. It holds which database it is of, and is
// in hexadecimal digits: people give it to commands, which take what begins with
// a dash for a flag.
func (p position) cursor(stream uint32) string {
	b := make([]byte, 0, cursorLength)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint64(b, uint64(p.txid))
	b = binary.BigEndian.AppendUint64(b, uint64(p.seq))
	return hex.EncodeToString(b)
}

// parseCursor is the way back. A cursor of another database leads nowhere here.
func parseCursor(cursor string, stream uint32) (position, error) {
	b, err := hex.DecodeString(cursor)
	if err != nil || len(b) != cursorLength {
		return position{}, state.ErrBadToken
	}
	if binary.BigEndian.Uint32(b) != stream {
		return position{}, state.ErrEventsGone
	}
	return position{int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint64(b[12:]))}, nil
}

// stream tells this database's cursors from those of others.
func (s *Store) stream(ctx context.Context) (uint32, error) {
	if known := s.ownStream.Load(); known != nil {
		return *known, nil
	}
	owner, err := s.Owner(ctx)
	if err != nil {
		return 0, err
	}
	h := fnv.New32a()
	fmt.Fprint(h, owner)
	sum := h.Sum32()
	s.ownStream.Store(&sum)
	return sum, nil
}

// settled is the condition under which no event can appear any more before one.
func (s *Store) settled() string {
	if s.dialect.Settled == "" {
		return "1 = 1"
	}
	return s.dialect.Settled
}

// floor is the position of the newest event that was dropped.
func floor(ctx context.Context, q queries) (p position, err error) {
	var text string
	err = q.queryRow(ctx, `SELECT value FROM meta WHERE key = 'events_floor'`).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return position{}, nil
	}
	if err == nil {
		_, err = fmt.Sscanf(text, "%d %d", &p.txid, &p.seq)
	}
	if err != nil {
		return position{}, fmt.Errorf("read the oldest position of events: %w", err)
	}
	return p, nil
}

// last is the position of the newest event, or the floor.
func (s *Store) last(ctx context.Context) (newest, oldest position, err error) {
	if oldest, err = floor(ctx, s.read); err != nil {
		return newest, oldest, err
	}
	err = s.read.queryRow(ctx, `SELECT txid, seq FROM events WHERE `+s.settled()+` ORDER BY txid DESC, seq DESC LIMIT 1`).Scan(&newest.txid, &newest.seq)
	if errors.Is(err, sql.ErrNoRows) {
		return oldest, oldest, nil
	}
	if err != nil {
		return newest, oldest, fmt.Errorf("read the newest position of events: %w", err)
	}
	return newest, oldest, nil
}

// EventBounds returns the cursors around all events.
func (s *Store) EventBounds(ctx context.Context) (oldest, newest string, err error) {
	stream, err := s.stream(ctx)
	if err != nil {
		return "", "", err
	}
	to, from, err := s.last(ctx)
	if err != nil {
		return "", "", err
	}
	return from.cursor(stream), to.cursor(stream), nil
}

// Events returns the events after a cursor.
func (s *Store) Events(ctx context.Context, cursor string, limit int) (_ []*brokerv1.Event, _ string, err error) {
	stream, err := s.stream(ctx)
	if err != nil {
		return nil, "", err
	}
	at, err := parseCursor(cursor, stream)
	if err != nil {
		return nil, "", err
	}
	out, next, err := s.eventsAfter(ctx, at, limit, stream)
	if err != nil {
		return nil, "", err
	}
	// Looked at last: what was dropped while the events were read is missing there.
	oldest, err := floor(ctx, s.read)
	if err != nil {
		return nil, "", err
	}
	if at.before(oldest) {
		return nil, "", state.ErrEventsGone
	}
	if len(out) == 0 {
		// A database that was put back to an earlier day gives the same numbers again.
		if newest, _, err := s.last(ctx); err != nil || newest.before(at) {
			return nil, "", errors.Join(err, state.ErrEventsGone)
		}
	}
	return out, next.cursor(stream), nil
}

func (s *Store) eventsAfter(ctx context.Context, at position, limit int, stream uint32) (_ []*brokerv1.Event, next position, err error) {
	rows, err := s.read.query(ctx, `SELECT txid, seq, body FROM events
		WHERE (txid, seq) > (?, ?) AND `+s.settled()+` ORDER BY txid, seq LIMIT ?`, at.txid, at.seq, limit)
	if err != nil {
		return nil, at, fmt.Errorf("read events: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []*brokerv1.Event
	next = at
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&next.txid, &next.seq, &body); err != nil {
			return nil, at, fmt.Errorf("read event: %w", err)
		}
		e := &brokerv1.Event{}
		if err := proto.Unmarshal(body, e); err != nil {
			return nil, at, fmt.Errorf("decode event: %w", err)
		}
		e.Cursor = next.cursor(stream)
		out = append(out, e)
	}
	return out, next, rows.Err()
}

// PurgeEvents drops the oldest events, and remembers up to where.
func (s *Store) PurgeEvents(ctx context.Context, cutoff time.Time, keep int) error {
	return s.inTx(ctx, func(tx queries) error {
		old, err := floor(ctx, tx)
		if err != nil {
			return err
		}
		to := old
		for _, bound := range []struct {
			query string
			arg   any
		}{
			{`SELECT txid, seq FROM events WHERE at < ? AND ` + s.settled() + ` ORDER BY txid DESC, seq DESC LIMIT 1`, cutoff.UnixNano()},
			{`SELECT txid, seq FROM events WHERE ` + s.settled() + ` ORDER BY txid DESC, seq DESC LIMIT 1 OFFSET ?`, keep},
		} {
			var p position
			err := tx.queryRow(ctx, bound.query, bound.arg).Scan(&p.txid, &p.seq)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("find old events: %w", err)
			}
			if to.before(p) {
				to = p
			}
		}
		if to == old {
			return nil
		}
		if _, err := tx.exec(ctx, `DELETE FROM events WHERE (txid, seq) <= (?, ?)`, to.txid, to.seq); err != nil {
			return fmt.Errorf("drop old events: %w", err)
		}
		_, err = tx.exec(ctx, `INSERT INTO meta (key, value) VALUES ('events_floor', ?)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value`, fmt.Sprintf("%d %d", to.txid, to.seq))
		if err != nil {
			return fmt.Errorf("remember which events were dropped: %w", err)
		}
		return nil
	})
}
