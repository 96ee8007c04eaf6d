package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sandbar-dev/sandbar/broker/state/relational"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many reads run at once; more than that wait, which costs less
// than the page cache of another connection.
const readers = 4

// Open opens the database file at path, makes it if it is missing, and brings
// its schema up to date. The folder must exist. The caller closes the store.
func Open(ctx context.Context, path string) (*relational.Store, error) {
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
	s, err := relational.New(ctx, relational.Dialect{Refused: refused}, write, read)
	if err != nil {
		return nil, fmt.Errorf("open state %q: %w", path, err)
	}
	return s, nil
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
	return relational.Migrate(ctx, goose.DialectSQLite3, db, dir)
}

// refused reads the one place where SQLite names what refused: the message, which
// ends with table.column and the code.
func refused(err error) (table, column string) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return "", ""
	}
	if code := e.Code(); code != sqlite3.SQLITE_CONSTRAINT_UNIQUE && code != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return "", ""
	}
	for word := range strings.FieldsSeq(e.Error()) {
		if table, column, ok := strings.Cut(word, "."); ok {
			return table, strings.TrimRight(column, ",")
		}
	}
	return "", ""
}
