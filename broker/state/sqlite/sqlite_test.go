package sqlite_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/broker/state/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(tb testing.TB) state.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "with a space.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestStateOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var owners []string
	for range 2 {
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		owner, err := s.Owner(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		owners = append(owners, owner)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if owners[0] != owners[1] {
		t.Errorf("the owner was %s and is %s", owners[0], owners[1])
	}
}

func TestUpgrade(t *testing.T) {
	migrations := os.DirFS("migrations")
	storetest.Upgrade(t, migrations, func(tb testing.TB) storetest.Database {
		tb.Helper()
		path := filepath.Join(tb.TempDir(), "state.db")
		db, err := sql.Open("sqlite", path)
		if err != nil {
			tb.Fatal(err)
		}
		return storetest.Database{
			Dialect: goose.DialectSQLite3, Migrations: migrations, SQL: db,
			Bind: func(query string) string { return query },
			Open: func(ctx context.Context) (state.Store, error) { return sqlite.Open(ctx, path) },
		}
	})
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }
