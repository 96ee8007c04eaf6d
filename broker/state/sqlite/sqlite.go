package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sandbar-dev/sandbar/broker/state"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many reads run at once; more than that wait, which costs less
// than the page cache of another connection.
const readers = 4

// Store keeps state in one file. It implements state.Store and is safe for
// concurrent use.
type Store struct {
	write *sql.DB
	read  *sql.DB
	// byID and byName read one sandbox. Every call about a sandbox does, and
	// compiling the statement each time is most of its cost.
	byID, byName *sql.Stmt
}

var _ state.Store = (*Store)(nil)

// Open opens the database file at path, makes it if it is missing, and brings
// its schema up to date. The folder must exist. The caller closes the store.
func Open(ctx context.Context, path string) (*Store, error) {
	write, err := connect(path, 1, false)
	if err != nil {
		return nil, fmt.Errorf("open state %q: %w", path, err)
	}
	if err := migrate(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate state %q: %w", path, err), write.Close())
	}
	read, err := connect(path, readers, true)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state %q: %w", path, err), write.Close())
	}
	s := &Store{write: write, read: read}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open state %q: %w", path, err), s.Close())
	}
	return s, nil
}

// prepare compiles what is asked all the time; closing the connections frees it.
func (s *Store) prepare(ctx context.Context) (err error) {
	const one = `SELECT ` + sandboxColumns + ` FROM sandboxes s WHERE `
	if s.byID, err = s.read.PrepareContext(ctx, one+`s.id = ?`); err != nil {
		return err
	}
	s.byName, err = s.read.PrepareContext(ctx, one+`s.name = ? AND s.name <> '' AND s.gone = 0`)
	return err
}

func connect(path string, connections int, readOnly bool) (*sql.DB, error) {
	q := url.Values{}
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "busy_timeout(10000)")
	q.Add("_pragma", "foreign_keys(1)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Set("_txlock", "immediate")
	if readOnly {
		q.Add("_pragma", "query_only(1)")
		q.Set("_txlock", "deferred")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Owner returns the broker's id.
func (s *Store) Owner(ctx context.Context) (string, error) {
	fresh := "brk_" + strings.ToLower(rand.Text()) // vendors want labels in lower case
	_, err := s.write.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('owner', ?) ON CONFLICT DO NOTHING`, fresh)
	if err != nil {
		return "", fmt.Errorf("store owner: %w", err)
	}
	var owner string
	err = s.write.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'owner'`).Scan(&owner)
	if err != nil {
		return "", fmt.Errorf("read owner: %w", err)
	}
	return owner, nil
}

// inTx runs fn in a write transaction.
func (s *Store) inTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(tx); err != nil {
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

// unique reports whether err says that a unique index refused, and for which
// column, as table.column.
func unique(err error, column string) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code()
	return (code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) &&
		strings.Contains(e.Error(), column)
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
