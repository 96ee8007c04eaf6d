package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Main runs the tests of a binary and then ends the server that they used.
type Main struct{ M *testing.M }

// Run does that.
func (m Main) Run() int {
	code := m.M.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// shared is the server of this test binary.
var shared sharing

type sharing struct {
	mu      sync.Mutex
	server  *Server
	err     error
	schemas atomic.Int64
}

// URL returns the address of an empty schema, the test's own, on a server that
// the tests of a binary share. It does not wait for the disk.
func URL(tb testing.TB) string {
	tb.Helper()
	s := shared.get(tb)
	name := fmt.Sprintf("t%d", shared.schemas.Add(1))
	u := s.URL()
	Exec(tb, u, `CREATE SCHEMA `+name)
	tb.Cleanup(func() { Exec(tb, u, `DROP SCHEMA `+name+` CASCADE`) })
	return s.URL("search_path", name)
}

func (s *sharing) get(tb testing.TB) *Server {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && s.err == nil {
		s.server, s.err = start(context.WithoutCancel(tb.Context()), "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	if errors.Is(s.err, errMissing) {
		tb.Skip(s.err)
	}
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}

func (s *sharing) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	return s.server.close()
}

// Start returns a server of the test's own, whose commits are on disk when they
// say so. Settings are name=value.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	var args []string
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	s, err := start(context.WithoutCancel(tb.Context()), args...)
	if errors.Is(err, errMissing) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// URL returns the address of the server's database, with parameters as pairs of
// name and value.
func (s *Server) URL(pairs ...string) string {
	q := url.Values{"host": {s.dir}, "user": {superuser}, "sslmode": {"disable"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return (&url.URL{Scheme: "postgres", Path: "/postgres", RawQuery: q.Encode()}).String()
}

// execWait is far above what a statement of a test takes.
const execWait = time.Minute

// Exec runs statements on a connection of its own.
func Exec(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), execWait)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = c.Exec(ctx, sql)
	if err = errors.Join(err, c.Close(ctx)); err != nil {
		tb.Fatal(err)
	}
}
