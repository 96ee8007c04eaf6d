package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sandbar-dev/sandbar/broker/state/relational"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// connections is how many one broker opens at most; three brokers then leave room
	// within the hundred that a server allows as it is installed.
	connections = 16
	// idleConnections are kept open for the next calls.
	idleConnections = 4
	// connectTimeout bounds a connection to a server that does not answer.
	connectTimeout = 10 * time.Second
	// migratePoll and migratePolls bound how long a broker that starts waits for
	// another that migrates: five minutes.
	migratePoll, migratePolls = 1, 300
)

// settings are what each connection asks of the server. A transaction that its
// broker forgot, because its machine stopped, must not hold rows for ever, and a
// connection that its machine left without a word is to be noticed before the
// hours that TCP takes by itself.
var settings = map[string]string{
	"application_name":                    "sandbar",
	"idle_in_transaction_session_timeout": "30s",
	"tcp_keepalives_idle":                 "5",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// Options are what a URL leaves out; zero values add nothing.
type Options struct {
	// Password is the user's, over one in the URL.
	Password string
	// Shared is true if other brokers use the database too, which all must say then.
	// Otherwise the store has the database for itself, or Open fails with ErrTaken.
	Shared bool
	// Lost is called, once at most and on a goroutine of the store's, when the store
	// lost its connection and another broker has taken the database meanwhile. It must
	// not wait for Close. Nil: nobody is told.
	Lost func(error)
	// Log takes what becomes of the connection for locks. Nil: nothing is logged.
	Log *slog.Logger
}

// Open connects to the database of a URL and brings its schema up to date. Of
// several brokers that do so at once, one migrates and the others wait. The
// caller closes the store. No error holds a password.
func Open(ctx context.Context, url string, opts Options) (*relational.Store, error) {
	conf, err := configure(url, opts)
	if err != nil {
		return nil, err
	}
	db := connect(conf)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate state in PostgreSQL: %w", err), db.Close())
	}
	if err := forget(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open events in PostgreSQL: %w", err), db.Close())
	}
	s, err := relational.New(ctx, dialect, db, db)
	if err != nil {
		return nil, fmt.Errorf("open state in PostgreSQL: %w", err)
	}
	owner, err := s.Owner(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	l, err := newLocks(ctx, conf, owner, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state in PostgreSQL: %w", err), s.Close())
	}
	s.Share(l, opts.Shared)
	return s, nil
}

var dialect = relational.Dialect{
	Bind: relational.Numbered, Refused: refused, Again: again,
	ForUpdate: " FOR UPDATE", ForShare: " FOR KEY SHARE", Settled: settled,
}

// settled holds for transactions older than all that are under way.
const settled = `txid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint`

// forget drops events whose transactions are yet to come, as they are in a database
// that was dumped and put into another server, whose numbers are lower: new events
// would come before them. Readers learn of it by their cursors.
func forget(ctx context.Context, db *sql.DB) error {
	const ahead = ` >= pg_current_xact_id()::text::bigint`
	_, err := db.ExecContext(ctx, `DELETE FROM events WHERE txid`+ahead)
	if err == nil {
		_, err = db.ExecContext(ctx, `DELETE FROM meta WHERE key = 'events_floor' AND split_part(value, ' ', 1)::bigint`+ahead)
	}
	return err
}

func connect(config *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(durable))
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(idleConnections)
	return db
}

// durable makes commits of a connection wait for the disk where the server would
// not; where it waits for more than that it is left so.
func durable(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(migratePoll, migratePolls))
	if err != nil {
		return err
	}
	return relational.Migrate(ctx, goose.DialectPostgres, db, dir, goose.WithSessionLocker(locker))
}

// Codes of errors, by the names that PostgreSQL has for them.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// refused relies on the names of the indexes: <table>_<column>.
func refused(err error) (table, column string) {
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != uniqueViolation {
		return "", ""
	}
	return e.TableName, strings.TrimPrefix(e.ConstraintName, e.TableName+"_")
}

func again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == deadlockDetected || e.Code == serializationFailure)
}
