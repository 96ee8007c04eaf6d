package postgres_test

import (
	"context"
	"database/sql"
	"os"
	"testing"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/postgres"
	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	"github.com/sandbar-dev/sandbar/broker/state/relational"
	"github.com/sandbar-dev/sandbar/broker/state/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Main{M: m}) }

func open(tb testing.TB) state.Store {
	tb.Helper()
	return openAt(tb, pgtest.URL(tb))
}

func openAt(tb testing.TB, url string) state.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), url, postgres.Options{})
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

func TestUpgrade(t *testing.T) {
	migrations := os.DirFS("migrations")
	storetest.Upgrade(t, migrations, func(tb testing.TB) storetest.Database {
		tb.Helper()
		url := pgtest.URL(tb)
		db, err := sql.Open("pgx", url)
		if err != nil {
			tb.Fatal(err)
		}
		return storetest.Database{
			Dialect: goose.DialectPostgres, Migrations: migrations, SQL: db, Bind: relational.Numbered,
			Open: func(ctx context.Context) (state.Store, error) { return postgres.Open(ctx, url, postgres.Options{}) },
		}
	})
}

func BenchmarkStore(b *testing.B) {
	s := pgtest.Start(b)
	storetest.Benchmark(b, func(tb testing.TB) state.Store {
		tb.Helper()
		return openAt(tb, s.URL())
	})
}
