package relational

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// Store keeps state in a database. It implements state.Store and is safe for
// concurrent use.
type Store struct {
	dialect Dialect
	db      []*sql.DB // to close
	write   queries
	read    queries
	begin   func(context.Context, *sql.TxOptions) (*sql.Tx, error)
	// byID and byName read one sandbox. Every call about a sandbox does, and
	// compiling the statement each time is most of its cost. insert and update are
	// long enough for that to show beside the disk.
	byID, byName, insert, update *sql.Stmt
	prepared                     []*sql.Stmt // to close
	// locks are those that other brokers on the database know of; nil: there are none.
	locks  Locker
	shared bool
	// ownStream is what marks this database's cursors, once it was asked for.
	ownStream atomic.Pointer[uint32]
}

var _ state.Store = (*Store)(nil)

// New returns a store on databases whose schema is up to date; read may be write.
// It owns both, also if it fails.
func New(ctx context.Context, d Dialect, write, read *sql.DB) (*Store, error) {
	s := &Store{dialect: d, db: []*sql.DB{write}, write: queries{on: write, dialect: d}, read: queries{on: read, dialect: d}, begin: write.BeginTx}
	if read != write {
		s.db = append(s.db, read)
	}
	if err := s.prepare(ctx, write, read); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare compiles what is asked all the time. Close closes what it made, also if
// it fails.
func (s *Store) prepare(ctx context.Context, write, read *sql.DB) error {
	const one = `SELECT ` + sandboxColumns + ` FROM sandboxes s WHERE `
	for _, p := range []struct {
		stmt  **sql.Stmt
		on    *sql.DB
		query string
	}{
		{&s.byID, read, one + `s.id = ?`},
		{&s.byName, read, one + `s.name = ? AND s.tenant = ? AND s.name <> '' AND s.gone = 0`},
		{&s.insert, write, insertSandboxSQL},
		{&s.update, write, updateSandboxSQL},
	} {
		stmt, err := p.on.PrepareContext(ctx, s.dialect.bind(p.query)) //nolint:sqlclosecheck // by Close
		if err != nil {
			return err
		}
		*p.stmt = stmt
		s.prepared = append(s.prepared, stmt)
	}
	return nil
}

// Locker takes locks that other brokers on the same database know of.
type Locker interface {
	TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error)
	// Close gives all of them back.
	Close() error
}

// Share gives the store locks, which it owns from then on. It is called before the
// store is used; shared says whether other brokers may use the database.
func (s *Store) Share(l Locker, shared bool) { s.locks, s.shared = l, shared }

// Shared reports whether other brokers may use the database.
func (s *Store) Shared() bool { return s.shared }

// TryLock takes a lock if no other broker has it.
func (s *Store) TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error) {
	if !s.shared {
		return func() {}, true, nil
	}
	return s.locks.TryLock(ctx, name)
}

// Close gives the locks back, and closes the statements, then the databases.
func (s *Store) Close() error {
	var errs []error
	if s.locks != nil {
		errs = append(errs, s.locks.Close())
	}
	for _, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
	}
	for _, db := range s.db {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// Owner returns the broker's id.
func (s *Store) Owner(ctx context.Context) (string, error) {
	fresh := "brk_" + strings.ToLower(rand.Text()) // vendors want labels in lower case
	_, err := s.write.exec(ctx, `INSERT INTO meta (key, value) VALUES ('owner', ?) ON CONFLICT DO NOTHING`, fresh)
	if err != nil {
		return "", fmt.Errorf("store owner: %w", err)
	}
	var owner string
	err = s.write.queryRow(ctx, `SELECT value FROM meta WHERE key = 'owner'`).Scan(&owner)
	if err != nil {
		return "", fmt.Errorf("read owner: %w", err)
	}
	return owner, nil
}

// queries runs queries on a database or in a transaction.
type queries struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	dialect Dialect
	tx      *sql.Tx // nil outside of one
}

func (q queries) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return q.on.ExecContext(ctx, q.dialect.bind(query), args...)
}

func (q queries) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return q.on.QueryContext(ctx, q.dialect.bind(query), args...)
}

func (q queries) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return q.on.QueryRowContext(ctx, q.dialect.bind(query), args...)
}

// hold locks the rows that a query reads until the transaction ends.
func (q queries) hold(ctx context.Context, query string, args ...any) error {
	if q.dialect.ForUpdate == "" {
		return nil
	}
	_, err := q.exec(ctx, query+q.dialect.ForUpdate, args...)
	return err
}

// repeats is how often a transaction is tried that others get in the way of. A
// deadlock ends for one of those in it, so a few tries are plenty.
const repeats = 5

// inTx runs fn in a write transaction, again if it failed because of another.
func (s *Store) inTx(ctx context.Context, fn func(queries) error) error {
	for try := 1; ; try++ {
		err := s.inOneTx(ctx, fn)
		if err == nil || try == repeats || s.dialect.Again == nil || !s.dialect.Again(err) {
			return err
		}
	}
}

func (s *Store) inOneTx(ctx context.Context, fn func(queries) error) error {
	tx, err := s.begin(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(queries{on: tx, dialect: s.dialect, tx: tx}); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func nanos(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixNano(), Valid: true}
}

func fromNanos(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.Unix(0, n.Int64).UTC()
}

// flag is a truth value as the databases keep it.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
