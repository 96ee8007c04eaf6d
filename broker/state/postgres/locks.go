package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockTimeout bounds a question to the server about a lock. One that takes longer
	// costs the connection, and with it all locks.
	lockTimeout = 5 * time.Second
	// keepInterval is how often the connection is looked after.
	keepInterval = 5 * time.Second
	// tenureWait is how long a broker that starts waits for one that ends, and tenureTry
	// how often it looks: a server notices within 20 s that a machine is gone, by the
	// keepalives that settings ask for.
	tenureWait = 30 * time.Second
	tenureTry  = 100 * time.Millisecond
)

// ErrTaken says that another broker has the database, which one of the two does not
// want to share.
var ErrTaken = errors.New("another broker uses the database: to run both as replicas of one, " +
	"set database.shared in the configuration of each; otherwise give each a database of its own")

// locks are advisory locks of the server, all on one connection. The server frees
// them when that ends: a broker that is killed holds nothing, and no clock is
// involved.
type locks struct {
	config *pgx.ConnConfig
	// tenure is held as long as the store is open: with others by replicas, alone by
	// a broker that shares its database with nobody.
	tenure int64
	shared bool
	lost   func(error)
	log    *slog.Logger

	// turn has a token for whoever uses what is below.
	turn chan struct{}
	conn *pgx.Conn
	// era counts connections: what was locked on an earlier one is not locked now.
	era int

	end  context.CancelFunc
	kept sync.WaitGroup
}

// newLocks takes the tenure of the store with an owner's id.
func newLocks(ctx context.Context, config *pgx.ConnConfig, owner string, opts Options) (*locks, error) {
	l := &locks{
		config: config, tenure: lockID("tenure " + owner), shared: opts.Shared, lost: opts.Lost, log: opts.Log,
		turn: make(chan struct{}, 1),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.turn <- struct{}{}
	if err := l.await(ctx); err != nil {
		return nil, err
	}
	keep, end := context.WithCancel(context.WithoutCancel(ctx))
	l.end = end
	l.kept.Go(func() { l.keep(keep) })
	return l, nil
}

// lockID is the number by which the server knows a name. Two names with the same
// number would only wait for each other.
func lockID(name string) int64 {
	h := fnv.New64a()
	fmt.Fprint(h, "sandbar ", name)
	return int64(h.Sum64())
}

// await waits until the tenure can be had. A server that is too busy to answer is
// asked again.
func (l *locks) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tenureWait)
	defer cancel()
	tick := time.NewTicker(tenureTry)
	defer tick.Stop()
	var taken error
	for {
		err := l.with(ctx, func(context.Context) error { return nil })
		switch {
		case errors.Is(err, ErrTaken):
			taken = err
		case err == nil || !errors.Is(err, context.DeadlineExceeded):
			return err
		case ctx.Err() != nil:
			return cmp.Or(taken, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return cmp.Or(taken, err)
		}
	}
}

// with runs a question on a connection that has the tenure. It is not cut short by
// the end of ctx, which would cost the connection.
func (l *locks) with(ctx context.Context, ask func(context.Context) error) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { l.turn <- struct{}{} }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	fresh := l.conn == nil
	if fresh {
		if err := l.connect(ctx); err != nil {
			return err
		}
	}
	err := ask(ctx)
	if err == nil {
		return nil
	}
	l.drop()
	if fresh {
		return err
	}
	if err := l.connect(ctx); err != nil { // the server may have been restarted
		return err
	}
	if err = ask(ctx); err != nil {
		l.drop()
	}
	return err
}

func (l *locks) connect(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return fmt.Errorf("connect for locks: %w", err)
	}
	l.conn = conn
	l.era++
	query := `SELECT pg_try_advisory_lock($1)`
	if l.shared {
		query = `SELECT pg_try_advisory_lock_shared($1)`
	}
	var ours bool
	err = conn.QueryRow(ctx, query, l.tenure).Scan(&ours)
	if err == nil && !ours {
		err = ErrTaken
	}
	if err != nil {
		l.drop()
	}
	return err
}

// drop ends the connection; the server then frees what it held.
func (l *locks) drop() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	_ = l.conn.Close(ctx) // it is of no use any more, whatever it says
	l.conn = nil
}

// keep notices that the connection is gone also while nobody locks anything, and
// gets another one. A store whose tenure somebody else has meanwhile is lost.
func (l *locks) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.with(ctx, func(ctx context.Context) error { return l.conn.Ping(ctx) })
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrTaken) && l.lost != nil:
			l.lost(err)
			return
		default:
			l.log.WarnContext(ctx, "no connection for locks", "error", err)
		}
	}
}

// TryLock takes a lock if nobody has it.
func (l *locks) TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error) {
	id, era := lockID(name), 0
	err = l.with(ctx, func(ctx context.Context) error {
		era = l.era
		return l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, id).Scan(&ok)
	})
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("lock: %w", err)
	case !ok:
		return nil, false, nil
	default:
		return func() { l.unlock(ctx, era, id) }, true, nil
	}
}

// unlock gives a lock back. If that fails the connection is given up, and the lock
// with it.
func (l *locks) unlock(ctx context.Context, era int, id int64) {
	<-l.turn
	defer func() { l.turn <- struct{}{} }()
	if l.conn == nil || l.era != era {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	if _, err := l.conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, id); err != nil {
		l.log.WarnContext(ctx, "the connection for locks is lost", "error", err)
		l.drop()
	}
}

// Close frees all locks.
func (l *locks) Close() error {
	l.end()
	l.kept.Wait()
	<-l.turn
	defer func() { l.turn <- struct{}{} }()
	l.drop()
	return nil
}
