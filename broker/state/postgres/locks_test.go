package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state/postgres"
	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	"github.com/sandbar-dev/sandbar/broker/state/relational"
)

func openWith(t *testing.T, url string, opts postgres.Options) *relational.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, opts)
	check(t, err)
	t.Cleanup(func() { _ = s.Close() }) // also one that a test has closed
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cut ends all connections that hold locks in the database, as the server sees the
// end of a process. The server is the test's own.
func cut(t *testing.T, url string) {
	t.Helper()
	pgtest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()`)
}

// try takes a lock and reports whether it could be had.
func try(t *testing.T, s *relational.Store, name string) (unlock func(), ok bool) {
	t.Helper()
	unlock, ok, err := s.TryLock(t.Context(), name)
	check(t, err)
	return unlock, ok
}

func TestLocks(t *testing.T) {
	url := pgtest.Start(t).URL()
	shared := postgres.Options{Shared: true}
	a, b := openWith(t, url, shared), openWith(t, url, shared)
	if !a.Shared() || !b.Shared() {
		t.Error("the stores are not shared")
	}
	unlock, ok := try(t, a, "x")
	if !ok {
		t.Fatal("a lock that nobody has cannot be had")
	}
	if _, ok := try(t, b, "x"); ok {
		t.Error("two brokers have the same lock")
	}
	other, ok := try(t, b, "y")
	if !ok {
		t.Error("another lock cannot be had")
	}
	other()
	unlock()
	again, ok := try(t, b, "x")
	if !ok {
		t.Error("a lock that was given back cannot be had")
	}

	cut(t, url)
	mine, ok := try(t, a, "x")
	if !ok {
		t.Error("the lock of a connection that ended cannot be had")
	}
	again() // of a connection that is gone: it must not take the lock from a
	if _, ok := try(t, b, "x"); ok {
		t.Error("who lost a lock freed it for others")
	}
	mine()

	check(t, a.Close())
	if _, ok := try(t, b, "x"); !ok {
		t.Error("a closed store has a lock")
	}
}

// TestTenure: a broker that does not share its database has it for itself.
func TestTenure(t *testing.T) {
	url := pgtest.Start(t).URL()
	for _, tc := range []struct {
		name          string
		first, second bool
		taken         bool
	}{
		{"replicas", true, true, false},
		{"alone, then alone", false, false, true},
		{"alone, then a replica", false, true, true},
		{"a replica, then alone", true, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first := openWith(t, url, postgres.Options{Shared: tc.first})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			second, err := postgres.Open(ctx, url, postgres.Options{Shared: tc.second})
			if err == nil {
				check(t, second.Close())
			}
			if errors.Is(err, postgres.ErrTaken) != tc.taken || err != nil && !tc.taken {
				t.Errorf("the second broker got %v; want it to be refused: %t", err, tc.taken)
			}
			check(t, first.Close())
			openWith(t, url, postgres.Options{Shared: tc.second}) // it waits for one that ends
		})
	}
}

// TestTenureIsLost: who lost the database to another broker is told; who only lost
// the connection gets another one.
func TestTenureIsLost(t *testing.T) {
	url := pgtest.Start(t).URL()
	lost := make(chan error, 1)
	a := openWith(t, url, postgres.Options{Lost: func(err error) { lost <- err }})
	cut(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // b comes as soon as the server has freed what a had
		b, err := postgres.Open(ctx, url, postgres.Options{})
		if err == nil {
			defer func() { check(t, b.Close()) }()
			break
		}
		if ctx.Err() != nil || !errors.Is(err, postgres.ErrTaken) {
			t.Fatal(err)
		}
		cut(t, url) // a was quicker
	}
	select {
	case err := <-lost:
		if !errors.Is(err, postgres.ErrTaken) {
			t.Errorf("a is told %v", err)
		}
	case <-ctx.Done():
		t.Error("a is not told that b has its database")
	}
	check(t, a.Close())
}
