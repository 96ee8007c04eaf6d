package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Database is an empty database of one dialect.
type Database struct {
	Dialect    goose.Dialect
	Migrations fs.FS
	// SQL is a connection to it, which Upgrade closes.
	SQL *sql.DB
	// Bind writes the ? of a statement as the database reads them.
	Bind func(string) string
	// Open opens the store on it, which migrates it.
	Open func(context.Context) (state.Store, error)

	// version of the schema while history is stored.
	version int
}

// Upgrade tests that what was stored under each schema that there ever was is
// there under the newest.
func Upgrade(t *testing.T, migrations fs.FS, database func(testing.TB) Database) {
	t.Helper()
	files, err := fs.Glob(migrations, "*.sql")
	check(t, err)
	for _, file := range files {
		var version int
		if _, err := fmt.Sscanf(file, "%05d_", &version); err != nil {
			t.Fatalf("migration %q has no number: %v", file, err)
		}
		t.Run(fmt.Sprintf("from %05d", version), func(t *testing.T) {
			d := database(t)
			p, err := goose.NewProvider(d.Dialect, d.SQL, d.Migrations)
			check(t, err)
			_, err = p.UpTo(t.Context(), int64(version))
			check(t, err)
			d.version = version
			old := history(t, d)
			for _, h := range old {
				if h.since <= version {
					h.store()
				}
			}
			check(t, d.SQL.Close())
			s, err := d.Open(t.Context())
			check(t, err)
			defer func() { check(t, s.Close()) }()
			for _, h := range old {
				h.verify(t, s, h.since <= version)
			}
		})
	}
	t.Run("newer than the program", func(t *testing.T) { newer(t, database(t)) })
}

// newer: a schema that a newer program made is not touched, and the error says
// what to do.
func newer(t *testing.T, d Database) {
	s, err := d.Open(t.Context())
	check(t, err)
	check(t, s.Close())
	_, err = d.SQL.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`)
	check(t, err)
	check(t, d.SQL.Close())
	s, err = d.Open(t.Context())
	if err == nil {
		check(t, s.Close())
	}
	const say = "the schema is version 99999 and this program knows up to"
	if err == nil || !strings.Contains(err.Error(), say) {
		t.Errorf("opened with %v, want an error with %q", err, say)
	}
}

// chapter is something that can be stored since one version of the schema.
type chapter struct {
	since  int
	store  func()
	verify func(t *testing.T, s state.Store, stored bool)
}

// history stores by hand, as the programs of the time did: each statement stays
// as it was written for its schema.
func history(t *testing.T, d Database) []chapter {
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := d.SQL.ExecContext(t.Context(), d.Bind(query), args...)
		check(t, err)
	}
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		check(t, err)
		return b
	}
	old := sandbox(1, func(sb *state.Sandbox) {
		sb.Body.Name, sb.Body.Labels, sb.RequestKey, sb.Version = "old", map[string]string{"a": "b"}, "key", 7
	})
	gone := sandbox(2, func(sb *state.Sandbox) { sb.Status.Gone, sb.GoneAt = true, start })
	snapshot := &brokerv1.Snapshot{SnapshotId: "snp_1", Name: "s", SandboxId: old.ID()}
	tenanted := sandbox(5, func(sb *state.Sandbox) { sb.Body.Name, sb.Body.Tenant = "old", "acme" })
	key := &brokerv1.APIKey{KeyId: "sbk_1", Tenant: "acme", Role: brokerv1.Role_ROLE_USER}
	// What was stored before there were tenants says nothing of one.
	tenantless := func(sb *state.Sandbox) *brokerv1.Sandbox {
		body := proto.CloneOf(sb.Body)
		body.Tenant = ""
		return body
	}
	place := &brokerv1.Placement{Provider: "p"}
	hook := webhook(1, "default")
	return []chapter{
		{since: 1, store: func() {
			exec(`INSERT INTO meta (key, value) VALUES ('owner', 'brk_old')`)
			for _, sb := range []*state.Sandbox{old, gone} {
				var goneAt any
				goneFlag := 0
				if sb.Status.Gone {
					goneFlag, goneAt = 1, sb.GoneAt.UnixNano()
				}
				exec(`INSERT INTO sandboxes (id, name, provider, state, pending, prior, reason, gone, gone_at, op_key, op_digest, request_key,
					attempts, idle_ns, last_active_at, version, body) VALUES (?, ?, 'p', ?, 0, 0, '', ?, ?, ?, ?, ?, 0, 0, ?, ?, ?)`,
					sb.ID(), sb.Body.GetName(), int64(sb.Status.State), goneFlag, goneAt, sb.Operation.GetIdempotencyKey(), sb.Operation.GetRequestDigest(),
					sb.RequestKey, start.UnixNano(), sb.Version, encode(tenantless(sb)))
			}
			exec(`INSERT INTO sandbox_labels (key, value, seq) SELECT 'a', 'b', seq FROM sandboxes WHERE id = ?`, old.ID())
			if d.version < 3 {
				exec(`INSERT INTO requests (key, digest, ids, at) VALUES ('key', ?, '["sbx_001"]', ?)`, []byte{9}, start.UnixNano())
			} else {
				exec(`INSERT INTO requests (key, tenant, digest, ids, at) VALUES ('key', 'default', ?, '["sbx_001"]', ?)`, []byte{9}, start.UnixNano())
			}
			exec(`INSERT INTO snapshots (id, name, sandbox_id, ready, op_key, op_digest, request_key, body) VALUES (?, ?, ?, 1, 'k', ?, '', ?)`,
				snapshot.GetSnapshotId(), snapshot.GetName(), old.ID(), []byte{}, encode(snapshot))
		}, verify: func(t *testing.T, s state.Store, _ bool) { verifyFirst(t, s, old, gone, snapshot) }},
		{since: 2, store: func() {
			exec(`INSERT INTO placements (seq, body) SELECT seq, ? FROM sandboxes WHERE id = ?`, encode(place), old.ID())
			exec(`INSERT INTO measurements (provider, good, bad, seconds, at, streak, open_until, openings, cool_until)
				VALUES ('p', 1.5, 0.25, 2.5, ?, 1, NULL, 2, ?)`, start.UnixNano(), start.Add(time.Second).UnixNano())
		}, verify: func(t *testing.T, s state.Store, stored bool) { verifyPlacement(t, s, place, stored) }},
		{since: 4, store: func() {
			exec(`INSERT INTO events (at, body) VALUES (?, ?)`, start.UnixNano(), encode(&brokerv1.Event{Reason: "old"}))
			exec(`INSERT INTO meta (key, value) VALUES ('events_floor', '0 0')`)
		}, verify: verifyEvents},
		{since: 3, store: func() {
			exec(`INSERT INTO tenants (name, body) VALUES ('acme', ?)`, encode(&brokerv1.Tenant{Name: "acme", Description: "d"}))
			exec(`INSERT INTO api_keys (id, tenant, hash, body) VALUES (?, 'acme', ?, ?)`, key.GetKeyId(), []byte{7}, encode(key))
			exec(`INSERT INTO sandboxes (id, name, provider, state, pending, prior, reason, gone, op_key, op_digest, request_key,
				attempts, idle_ns, last_active_at, version, body, tenant) VALUES (?, 'old', 'p', ?, 0, 0, '', 0, ?, ?, 'key', 0, 0, ?, 1, ?, 'acme')`,
				tenanted.ID(), int64(tenanted.Status.State), tenanted.Operation.GetIdempotencyKey(), tenanted.Operation.GetRequestDigest(),
				start.UnixNano(), encode(tenanted.Body))
			exec(`INSERT INTO requests (key, tenant, digest, ids, at) VALUES ('key', 'acme', ?, '["sbx_005"]', ?)`, []byte{8}, start.UnixNano())
		}, verify: func(t *testing.T, s state.Store, stored bool) { verifyTenants(t, s, tenanted, key, stored) }},
		{since: 5, store: func() {
			exec(`INSERT INTO tenants (name, body, enforced, creates_until) VALUES ('spender', ?, 1, ?)`, encode(&brokerv1.Tenant{Name: "spender"}), start.UnixNano())
			exec(`INSERT INTO used_sandboxes (sandbox_id, day, tenant, provider, name, currency, basis, running_ms, paused_ms, cpu_us, memory_mib_ms, disk_mib_ms, starts, micros)
				VALUES ('sbx_009', 20000, 'spender', 'p', 'n', 'USD', 1, 2, 3, 4, 5, 6, 7, 8)`)
			exec(`INSERT INTO used_days (tenant, day, provider, currency, basis, running_ms, paused_ms, cpu_us, memory_mib_ms, disk_mib_ms, starts, micros)
				VALUES ('spender', 20000, 'p', 'USD', 1, 2, 3, 4, 5, 6, 7, 8)`)
		}, verify: verifyUsed},
		{since: 6, store: func() {
			exec(`INSERT INTO webhooks (id, tenant, disabled, secret, previous_secret, holder, held_until, version, body)
				VALUES (?, 'default', 0, ?, ?, '', 0, 1, ?)`, hook.ID(), hook.Secret, hook.Previous, encode(hook.Body))
		}, verify: func(t *testing.T, s state.Store, stored bool) { verifyWebhook(t, s, hook, stored) }},
		{since: 7, store: func() { exec(insertWish, []byte{}, encode(&brokerv1.Snapshot{SnapshotId: "snp_2"})) }, verify: verifyWish},
	}
}

const insertWish = `INSERT INTO snapshots (id, name, sandbox_id, ready, op_key, op_digest, request_key, body, tenant, deleting)
	VALUES ('snp_2', '', 'sbx_001', 1, 'k2', ?, '', ?, 'default', 1)`

// verifyWish: a snapshot that is to be deleted still is, and no other.
func verifyWish(t *testing.T, s state.Store, stored bool) {
	t.Helper()
	rows, _, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{Open: true}, state.Page{Size: 9})
	check(t, err)
	if stored != (len(rows) == 1) || stored && (rows[0].ID() != "snp_2" || !rows[0].Deleting) {
		t.Errorf("to be deleted are %v; one was stored: %t", rows, stored)
	}
}

func verifyEvents(t *testing.T, s state.Store, stored bool) {
	t.Helper()
	if got := from(t, s, false).next(); stored != (len(got) > 0 && got[0] == "old") {
		t.Errorf("events are %q; one was stored: %t", got, stored)
	}
}

func verifyFirst(t *testing.T, s state.Store, old, gone *state.Sandbox, snapshot *brokerv1.Snapshot) {
	t.Helper()
	if owner, err := s.Owner(t.Context()); owner != "brk_old" || err != nil {
		t.Errorf("owner is %q, %v", owner, err)
	}
	for _, sb := range []*state.Sandbox{old, gone} {
		got, err := s.Sandbox(t.Context(), sb.ID())
		check(t, err)
		if diff := cmp.Diff(sb, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", sb.ID(), diff)
		}
	}
	rows, _, err := s.ListSandboxes(t.Context(), state.Filter{Labels: map[string]string{"a": "b"}}, state.Page{Size: 10})
	check(t, err)
	if len(rows) != 1 || rows[0].ID() != old.ID() {
		t.Errorf("with its label there are %v", rows)
	}
	if r, err := s.Request(t.Context(), "default", "key"); err != nil || len(r.IDs) != 1 || r.IDs[0] != old.ID() {
		t.Errorf("its request is %+v, %v", r, err)
	}
	byName, err := s.SandboxNamed(t.Context(), "default", "old")
	check(t, err)
	if byName.ID() != old.ID() {
		t.Errorf("by name it is %s", byName.ID())
	}
	sn, err := s.SnapshotNamed(t.Context(), "default", "s")
	check(t, err)
	snapshot = proto.CloneOf(snapshot)
	snapshot.Tenant = "default"
	if diff := cmp.Diff(snapshot, sn.Body, protocmp.Transform()); diff != "" || !sn.Ready {
		t.Errorf("snapshot, ready %t: -want +got:\n%s", sn.Ready, diff)
	}
	want(t, s.InsertSandboxes(t.Context(), nil, sandbox(3, func(sb *state.Sandbox) { sb.Body.Name = "old" })), state.ErrNameTaken)
	check(t, s.UpdateSandbox(t.Context(), old))
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(4)))
}

func verifyPlacement(t *testing.T, s state.Store, place *brokerv1.Placement, stored bool) {
	t.Helper()
	wanted := map[string]placement.Measurement{}
	if stored {
		wanted["p"] = placement.Measurement{Good: 1.5, Bad: 0.25, Seconds: 2.5, At: start, Streak: 1, Openings: 2, CoolUntil: start.Add(time.Second)}
	} else {
		place = nil
	}
	got, err := s.Placement(t.Context(), "sbx_001")
	check(t, err)
	if diff := cmp.Diff(place, got, protocmp.Transform()); diff != "" {
		t.Errorf("placement: -want +got:\n%s", diff)
	}
	measured, err := s.Measurements(t.Context())
	check(t, err)
	if diff := cmp.Diff(wanted, measured); diff != "" {
		t.Errorf("measurements: -want +got:\n%s", diff)
	}
	if n, err := s.CountSandboxes(t.Context()); n["p"] == 0 || err != nil {
		t.Errorf("counted %v, %v", n, err)
	}
}

// verifyUsed: what was used stays as it was counted, and what was there before it
// was counted has used nothing.
func verifyUsed(t *testing.T, s state.Store, stored bool) {
	t.Helper()
	u := state.Used{Tenant: "spender", Provider: "p", Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_DETERMINISTIC}
	u.Piece = metering.Piece{Day: 20000, Use: metering.Use{
		RunningMillis: 2, PausedMillis: 3, CPUMicros: 4, MemoryMiBMillis: 5, DiskMiBMillis: 6, Starts: 7, Micros: 8,
	}}
	for _, bySandbox := range []bool{false, true} {
		var wanted []state.Used
		if bySandbox {
			u.SandboxID, u.Name = "sbx_009", "n"
		}
		if stored {
			wanted = append(wanted, u)
		}
		got, err := s.Used(t.Context(), state.UseFilter{First: 20000, Last: 20000, BySandbox: bySandbox}, start)
		check(t, err)
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	enforced, err := s.EnforcedTenants(t.Context())
	check(t, err)
	if stored != (len(enforced) == 1) {
		t.Errorf("enforced are %v; one was stored: %t", enforced, stored)
	}
}

// verifyTenants: what was there is the default tenant's, and others can be made.
func verifyTenants(t *testing.T, s state.Store, tenanted *state.Sandbox, key *brokerv1.APIKey, stored bool) {
	t.Helper()
	_, err := s.Tenant(t.Context(), "default")
	check(t, err)
	if !stored {
		check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
		check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "acme", Key: "key", IDs: []string{tenanted.ID()}, At: start}, tenanted))
		check(t, s.InsertKey(t.Context(), &state.Key{Body: key, Hash: []byte{7}}))
	}
	got, err := s.SandboxNamed(t.Context(), "acme", "old")
	check(t, err)
	if got.ID() != tenanted.ID() || got.Tenant() != "acme" {
		t.Errorf("acme's sandbox is %s of %s", got.ID(), got.Tenant())
	}
	r, err := s.Request(t.Context(), "acme", "key")
	check(t, err)
	if diff := cmp.Diff([]string{tenanted.ID()}, r.IDs); diff != "" {
		t.Errorf("acme's request: -want +got:\n%s", diff)
	}
	k, err := s.Key(t.Context(), key.GetKeyId())
	check(t, err)
	if diff := cmp.Diff(key, k.Body, protocmp.Transform()); diff != "" || k.Hash[0] != 7 {
		t.Errorf("key, hash %x: -want +got:\n%s", k.Hash, diff)
	}
}

func verifyWebhook(t *testing.T, s state.Store, hook *state.Webhook, stored bool) {
	t.Helper()
	if !stored {
		check(t, s.InsertWebhook(t.Context(), hook))
	}
	got, err := s.Webhook(t.Context(), hook.ID())
	check(t, err)
	if diff := cmp.Diff(hook, got, protocmp.Transform()); diff != "" {
		t.Errorf("webhook: -want +got:\n%s", diff)
	}
}
