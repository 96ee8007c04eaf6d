package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/broker/state/storetest"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
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

// TestUpgrade: what an earlier schema holds is there after each migration.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"))
	if err == nil {
		_, err = p.UpTo(t.Context(), 1)
	}
	if err == nil {
		_, err = db.ExecContext(t.Context(), `INSERT INTO sandboxes (id, name, provider, state, pending, prior, reason, gone, op_key, op_digest,
			request_key, attempts, idle_ns, last_active_at, version, body) VALUES ('sbx_old', 'n', 'p', 2, 0, 0, '', 0, 'k', x'00', '', 0, 0, 0, 1, x'')`)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	sb, err := s.Sandbox(t.Context(), "sbx_old")
	if err != nil || sb.Version != 1 {
		t.Errorf("the old sandbox is %+v, %v", sb, err)
	}
	if place, err := s.Placement(t.Context(), "sbx_old"); place != nil || err != nil {
		t.Errorf("its placement is %v, %v", place, err)
	}
	if n, err := s.CountSandboxes(t.Context()); n["p"] != 1 || err != nil {
		t.Errorf("counted %v, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// many fills a store with n sandboxes, every tenth PAUSED, one in a thousand
// with a rare label.
func many(tb testing.TB, n int) state.Store {
	tb.Helper()
	s := open(tb)
	now := time.Now()
	for i := 0; i < n; i += 1000 {
		var rows []*state.Sandbox
		for j := i; j < i+1000; j++ {
			sb := &state.Sandbox{Status: lifecycle.Status{State: providerv1.SandboxState_SANDBOX_STATE_RUNNING}, Version: 1, Body: &brokerv1.Sandbox{
				SandboxId: fmt.Sprintf("sbx_%08d", j), Name: fmt.Sprintf("n-%d", j), Provider: "p",
				CreatedAt: timestamppb.New(now), LastActiveAt: timestamppb.New(now), ExpiresAt: timestamppb.New(now.Add(time.Duration(j) * time.Second)),
				Labels: map[string]string{"team": strconv.Itoa(j % 7)},
			}}
			if j%10 == 0 {
				sb.Status.State = providerv1.SandboxState_SANDBOX_STATE_PAUSED
			}
			if j%1000 == 0 {
				sb.Body.Labels["rare"] = "yes"
			}
			rows = append(rows, sb)
		}
		if err := s.InsertSandboxes(tb.Context(), nil, rows...); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// BenchmarkHundredThousand measures single calls among 100 000 sandboxes.
func BenchmarkHundredThousand(b *testing.B) {
	s := many(b, 100_000)
	ctx := b.Context()
	for name, call := range map[string]func() error{
		"get by id":   func() error { _, err := s.Sandbox(ctx, "sbx_00050000"); return err },
		"get by name": func() error { _, err := s.Sandbox(ctx, "n-50000"); return err },
		"list":        func() error { _, _, err := s.ListSandboxes(ctx, state.Filter{}, state.Page{Size: 100}); return err },
		"list by rare label": func() error {
			_, _, err := s.ListSandboxes(ctx, state.Filter{Labels: map[string]string{"rare": "yes"}}, state.Page{Size: 100})
			return err
		},
		"list by state": func() error {
			_, _, err := s.ListSandboxes(ctx, state.Filter{States: []providerv1.SandboxState{providerv1.SandboxState_SANDBOX_STATE_FAILED}}, state.Page{Size: 100})
			return err
		},
		"count":    func() error { _, err := s.CountSandboxes(ctx); return err },
		"next due": func() error { _, err := s.NextDue(ctx); return err },
		"touch":    func() error { return s.TouchSandbox(ctx, "sbx_00050000", time.Now()) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
