package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	running = providerv1.SandboxState_SANDBOX_STATE_RUNNING
	paused  = providerv1.SandboxState_SANDBOX_STATE_PAUSED
)

// start is when the tests' sandboxes are made.
var start = time.Unix(1_800_000_000, 0).UTC()

// Run runs the suite. open returns a new empty store that lives as long as the
// test.
func Run(t *testing.T, open func(testing.TB) state.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, state.Store){
		"round trip":       roundTrip,
		"names":            names,
		"heirs":            heirs,
		"requests":         requests,
		"conflicts":        conflicts,
		"touch":            touch,
		"due":              due,
		"list and filter":  list,
		"tokens":           tokens,
		"remove and purge": purge,
		"snapshots":        snapshots,
		"owner":            owner,
		"placements":       placements,
		"counts":           counts,
		"count states":     countStates,
		"count due":        countDue,
		"events":           events,
		"event cursors":    eventCursors,
		"purge events":     purgeEvents,
		"events together":  eventsTogether,
		"measurements":     measurements,
		"crossing inserts": crossing,
		"shared request":   sharedRequest,
		"tenants":          tenants,
		"tenants' objects": tenantObjects,
		"tenant removed":   tenantRemoved,
		"keys":             keys,
		"quotas":           quotas,
		"last place":       lastPlace,
		"pace":             pace,
		"budgets":          budgets,
		"reservation":      reservation,
		"tenant update":    tenantUpdate,
		"used":             used,
		"used adds up":     usedAddsUp,
		"webhooks":         webhooks,
		"held webhooks":    holds,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("model", func(t *testing.T) { model(t, open) })
}

func sandbox(n int, change ...func(*state.Sandbox)) *state.Sandbox {
	id := fmt.Sprintf("sbx_%03d", n)
	s := &state.Sandbox{
		Body:   &brokerv1.Sandbox{SandboxId: id, Tenant: "default", Provider: "p", CreatedAt: timestamppb.New(start), LastActiveAt: timestamppb.New(start)},
		Status: lifecycle.Status{State: running}, Version: 1,
		Operation: &providerv1.Operation{IdempotencyKey: "key-" + id, RequestDigest: []byte{1, 2}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

func roundTrip(t *testing.T, s state.Store) {
	in := sandbox(1, func(sb *state.Sandbox) {
		sb.Body.Name, sb.Body.Labels = "n", map[string]string{"a": "1", "b": "2"}
		sb.Body.Spec = &providerv1.SandboxSpec{Workdir: "/w"}
		sb.Body.Observed = &providerv1.Sandbox{Handle: &providerv1.Handle{Version: 3, Data: []byte("h")}}
		sb.Body.ExpiresAt = timestamppb.New(start.Add(time.Hour))
		sb.Status = lifecycle.Status{State: paused, Pending: lifecycle.Resume, Prior: paused, Reason: "r"}
		sb.RetryAt, sb.Attempts, sb.RequestKey = start.Add(time.Minute), 3, "rk"
	})
	check(t, s.InsertSandboxes(t.Context(), nil, in))
	for how, find := range map[string]func() (*state.Sandbox, error){
		"by id":   func() (*state.Sandbox, error) { return s.Sandbox(t.Context(), "sbx_001") },
		"by name": func() (*state.Sandbox, error) { return s.SandboxNamed(t.Context(), "default", "n") },
	} {
		got, err := find()
		check(t, err)
		if diff := cmp.Diff(in, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", how, diff)
		}
	}
	for _, name := range []string{"", "nobody", "sbx_nobody"} {
		_, err := s.Sandbox(t.Context(), name)
		want(t, err, state.ErrNotFound)
		_, err = s.SandboxNamed(t.Context(), "default", name)
		want(t, err, state.ErrNotFound)
	}
	_, err := s.SandboxNamed(t.Context(), "other", "n")
	want(t, err, state.ErrNotFound)
}

func names(t *testing.T, s state.Store) {
	named := func(sb *state.Sandbox) { sb.Body.Name = "n" }
	first := sandbox(1, named)
	check(t, s.InsertSandboxes(t.Context(), nil, first))
	want(t, s.InsertSandboxes(t.Context(), nil, sandbox(2), sandbox(3, named)), state.ErrNameTaken)
	if _, err := s.Sandbox(t.Context(), "sbx_002"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("half of a refused insert is there: %v", err)
	}
	first.Status.Gone, first.GoneAt = true, start
	check(t, s.UpdateSandbox(t.Context(), first))
	_, err := s.SandboxNamed(t.Context(), "default", "n")
	want(t, err, state.ErrNotFound)
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(4, named)))
	got, err := s.Sandbox(t.Context(), "sbx_001")
	check(t, err)
	if !got.Status.Gone || !got.GoneAt.Equal(start) {
		t.Errorf("tombstone is %+v", got.Status)
	}
}

// heirs: a name goes from one sandbox to another in one step, or not at all.
func heirs(t *testing.T, s state.Store) {
	named := func(name string) func(*state.Sandbox) { return func(sb *state.Sandbox) { sb.Body.Name = name } }
	web, spare, third := sandbox(1, named("web")), sandbox(2, named("spare")), sandbox(3, named("third"))
	check(t, s.InsertSandboxes(t.Context(), nil, web, spare, third))
	read := func(id string) *state.Sandbox {
		t.Helper()
		sb, err := s.Sandbox(t.Context(), id)
		check(t, err)
		return sb
	}
	means := func(name, id string) {
		t.Helper()
		sb, err := s.SandboxNamed(t.Context(), "default", name)
		check(t, err)
		if sb.ID() != id || sb.Body.GetName() != name {
			t.Errorf("%s is %s, called %q; want %s", name, sb.ID(), sb.Body.GetName(), id)
		}
	}
	handOver := func(name string) *state.Sandbox {
		from, heir := read(web.ID()), read(spare.ID())
		from.Body.Name, heir.Body.Name, from.Heir = "", name, heir
		return from
	}
	want(t, s.UpdateSandbox(t.Context(), handOver("third")), state.ErrNameTaken)
	stale := handOver("web")
	check(t, s.UpdateSandbox(t.Context(), read(spare.ID()))) // somebody else changed the heir
	want(t, s.UpdateSandbox(t.Context(), stale), state.ErrConflict)
	means("web", web.ID())
	means("spare", spare.ID())

	from := handOver("web")
	heir := from.Heir
	from.Events = []*brokerv1.Event{{SandboxId: from.ID()}}
	check(t, s.UpdateSandbox(t.Context(), from))
	means("web", spare.ID())
	if from.Heir != nil || from.Version != read(web.ID()).Version || heir.Version != read(spare.ID()).Version {
		t.Errorf("after it the heir is %v, and the versions are %d and %d", from.Heir, from.Version, heir.Version)
	}
	_, err := s.SandboxNamed(t.Context(), "default", "spare")
	want(t, err, state.ErrNotFound)
}

func requests(t *testing.T, s state.Store) {
	req := &state.Request{Tenant: "default", Key: "k", Digest: []byte("d"), IDs: []string{"sbx_001", "sbx_002"}, At: start}
	keyed := func(sb *state.Sandbox) { sb.RequestKey = "k" }
	check(t, s.InsertSandboxes(t.Context(), req, sandbox(1, keyed), sandbox(2, keyed)))
	want(t, s.InsertSandboxes(t.Context(), req, sandbox(3)), state.ErrKeyTaken)
	got, err := s.Request(t.Context(), "default", "k")
	check(t, err)
	if diff := cmp.Diff(req, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	remove(t, s, "sbx_001")
	_, err = s.Request(t.Context(), "default", "k")
	check(t, err)
	remove(t, s, "sbx_002", "sbx_nobody")
	_, err = s.Request(t.Context(), "default", "k")
	want(t, err, state.ErrNotFound)
}

func conflicts(t *testing.T, s state.Store) {
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(1)))
	const writers = 8
	results, read := make([]error, writers), make([]*state.Sandbox, writers)
	for i := range writers { // all before the first write
		var err error
		read[i], err = s.Sandbox(t.Context(), "sbx_001")
		check(t, err)
	}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { results[i] = s.UpdateSandbox(t.Context(), read[i]) })
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
			continue
		}
		want(t, err, state.ErrConflict)
	}
	if won != 1 {
		t.Errorf("%d of %d writers won, want 1", won, writers)
	}
	want(t, s.UpdateSandbox(t.Context(), sandbox(9)), state.ErrConflict)
}

func touch(t *testing.T, s state.Store) {
	in := sandbox(1, func(sb *state.Sandbox) { sb.Body.Idle = &brokerv1.Idle{Timeout: durationpb.New(time.Minute)} })
	check(t, s.InsertSandboxes(t.Context(), nil, in))
	for _, at := range []time.Duration{time.Second, time.Hour, time.Minute} {
		check(t, s.TouchSandbox(t.Context(), "sbx_001", start.Add(at)))
	}
	check(t, s.UpdateSandbox(t.Context(), in)) // has the old time, and the version is still its
	got, err := s.Sandbox(t.Context(), "sbx_001")
	check(t, err)
	if !got.LastActive().Equal(start.Add(time.Hour)) {
		t.Errorf("last active at %v, want the latest, %v", got.LastActive(), start.Add(time.Hour))
	}
}

func due(t *testing.T, s state.Store) {
	minute := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	check(t, s.InsertSandboxes(t.Context(), nil,
		sandbox(1),
		sandbox(2, func(sb *state.Sandbox) { sb.Body.ExpiresAt = timestamppb.New(minute(3)) }),
		sandbox(3, func(sb *state.Sandbox) { sb.RetryAt = minute(1); sb.Body.ExpiresAt = timestamppb.New(start) }),
		sandbox(4, func(sb *state.Sandbox) { sb.Body.Idle = &brokerv1.Idle{Timeout: durationpb.New(2 * time.Minute)} }),
		sandbox(5, func(sb *state.Sandbox) {
			sb.Body.Idle = &brokerv1.Idle{Timeout: durationpb.New(time.Minute)}
			sb.Status.State = paused // the idle are those that run
		})))
	expect := func(now time.Time, limit int, ids ...string) {
		t.Helper()
		rows, err := s.DueSandboxes(t.Context(), now, limit)
		check(t, err)
		var got []string
		for _, sb := range rows {
			got = append(got, sb.ID())
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("due at %v: -want +got:\n%s", now, diff)
		}
	}
	expect(start, 10)
	expect(minute(2), 10, "sbx_003", "sbx_004")
	expect(minute(9), 2, "sbx_003", "sbx_004")
	check(t, s.TouchSandbox(t.Context(), "sbx_004", minute(2)))
	expect(minute(3), 10, "sbx_003", "sbx_002")
	next, err := s.NextDue(t.Context())
	check(t, err)
	if !next.Equal(minute(1)) {
		t.Errorf("next due at %v, want %v", next, minute(1))
	}
	remove(t, s, "sbx_002", "sbx_003", "sbx_004")
	next, err = s.NextDue(t.Context())
	check(t, err)
	if !next.IsZero() {
		t.Errorf("next due at %v, want never", next)
	}
}

func list(t *testing.T, s state.Store) {
	for n := range 6 {
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n, func(sb *state.Sandbox) {
			sb.Body.Labels = map[string]string{"odd": strconv.FormatBool(n%2 == 1), "all": "x"}
			if n > 2 {
				sb.Body.Provider, sb.Status.State = "q", paused
			}
		})))
	}
	for _, tc := range []struct {
		name   string
		filter state.Filter
		want   []int
	}{
		{"all", state.Filter{}, []int{5, 4, 3, 2, 1, 0}},
		{"label", state.Filter{Labels: map[string]string{"odd": "true"}}, []int{5, 3, 1}},
		{"labels", state.Filter{Labels: map[string]string{"odd": "true", "all": "x"}}, []int{5, 3, 1}},
		{"no such value", state.Filter{Labels: map[string]string{"odd": "x"}}, nil},
		{"one label of two", state.Filter{Labels: map[string]string{"all": "x", "none": ""}}, nil},
		{"provider", state.Filter{Provider: "q"}, []int{5, 4, 3}},
		{"state", state.Filter{States: []providerv1.SandboxState{running}}, []int{2, 1, 0}},
		{"states", state.Filter{States: []providerv1.SandboxState{running, paused}}, []int{5, 4, 3, 2, 1, 0}},
		{"everything", state.Filter{Labels: map[string]string{"odd": "false"}, Provider: "q", States: []providerv1.SandboxState{paused}}, []int{4}},
	} {
		for _, size := range []int{1, 2, 10} {
			if diff := cmp.Diff(tc.want, walk(t, s, tc.filter, size)); diff != "" {
				t.Errorf("%s by %d: -want +got:\n%s", tc.name, size, diff)
			}
		}
	}
}

// walk lists page by page and returns the numbers of the sandboxes.
func walk(t *testing.T, s state.Store, f state.Filter, size int) []int {
	t.Helper()
	var out []int
	for token := ""; ; {
		rows, next, err := s.ListSandboxes(t.Context(), f, state.Page{Size: size, Token: token})
		check(t, err)
		if len(rows) > size {
			t.Fatalf("a page of %d has %d", size, len(rows))
		}
		for _, sb := range rows {
			var n int
			if _, err := fmt.Sscanf(sb.ID(), "sbx_%d", &n); err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		if token = next; token == "" {
			return out
		}
	}
}

func tokens(t *testing.T, s state.Store) {
	for n := range 4 {
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n)))
	}
	_, token, err := s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 2})
	check(t, err)
	// What comes and goes meanwhile moves nothing.
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(9)))
	remove(t, s, "sbx_003", "sbx_002")
	rows, token, err := s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 2, Token: token})
	check(t, err)
	if len(rows) != 2 || rows[0].ID() != "sbx_001" || rows[1].ID() != "sbx_000" || token != "" {
		t.Errorf("second page has %d rows and token %q", len(rows), token)
	}
	_, token, err = s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 1})
	check(t, err)
	for _, bad := range []struct {
		filter state.Filter
		token  string
	}{{state.Filter{}, "x"}, {state.Filter{}, "AAAA"}, {state.Filter{Provider: "p"}, token}} {
		_, _, err := s.ListSandboxes(t.Context(), bad.filter, state.Page{Size: 1, Token: bad.token})
		want(t, err, state.ErrBadToken)
	}
}

func purge(t *testing.T, s state.Store) {
	gone := func(at time.Time) func(*state.Sandbox) {
		return func(sb *state.Sandbox) { sb.Status.Gone, sb.GoneAt = true, at }
	}
	check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "default", Key: "old", IDs: []string{"sbx_001"}, At: start},
		sandbox(1, gone(start), func(sb *state.Sandbox) { sb.RequestKey = "old" })))
	check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "default", Key: "live", IDs: []string{"sbx_002"}, At: start},
		sandbox(2, func(sb *state.Sandbox) { sb.RequestKey = "live" })))
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(3, gone(start.Add(time.Hour)))))
	check(t, s.PurgeGone(t.Context(), start.Add(time.Minute)))
	for id, there := range map[string]bool{"sbx_001": false, "sbx_002": true, "sbx_003": true} {
		if _, err := s.Sandbox(t.Context(), id); (err == nil) != there {
			t.Errorf("%s: %v", id, err)
		}
	}
	_, err := s.Request(t.Context(), "default", "old")
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "default", "live")
	check(t, err)
}

func snapshots(t *testing.T, s state.Store) {
	in := &state.Snapshot{
		Body:      &brokerv1.Snapshot{SnapshotId: "snp_1", Tenant: "default", Name: "n", Provider: "p", SandboxId: "sbx_1", CreatedAt: timestamppb.New(start)},
		Operation: &providerv1.Operation{IdempotencyKey: "k", RequestDigest: []byte{1}}, RequestKey: "r",
	}
	check(t, s.InsertSnapshot(t.Context(), &state.Request{Tenant: "default", Key: "r", IDs: []string{"snp_1"}, At: start}, in))
	other := &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_2", Tenant: "default", Name: "n", SandboxId: "sbx_2"}}
	want(t, s.InsertSnapshot(t.Context(), nil, other), state.ErrNameTaken)
	other.Body.Name = ""
	want(t, s.InsertSnapshot(t.Context(), &state.Request{Tenant: "default", Key: "r"}, other), state.ErrKeyTaken)
	check(t, s.InsertSnapshot(t.Context(), nil, other))
	want(t, s.UpdateSnapshot(t.Context(), &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_3"}}), state.ErrNotFound)
	in.Ready, in.Handle, in.Spec = true, &providerv1.Handle{Version: 1}, &providerv1.SandboxSpec{User: "u"}
	check(t, s.UpdateSnapshot(t.Context(), in))
	got, err := s.SnapshotNamed(t.Context(), "default", "n")
	check(t, err)
	if diff := cmp.Diff(in, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	rows, token, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{}, state.Page{Size: 1})
	check(t, err)
	rest, end, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{}, state.Page{Size: 1, Token: token})
	check(t, err)
	if len(rows) != 1 || rows[0].ID() != "snp_2" || len(rest) != 1 || rest[0].ID() != "snp_1" || end != "" {
		t.Errorf("pages are %v and %v", rows, rest)
	}
	open := func(want ...string) {
		t.Helper()
		var got []string
		for token := ""; ; {
			rows, next, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{Open: true}, state.Page{Size: 1, Token: token})
			check(t, err)
			for _, sn := range rows {
				got = append(got, sn.ID())
			}
			if token = next; token == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("open: -want +got:\n%s", diff)
		}
	}
	_, _, err = s.ListSnapshots(t.Context(), state.SnapshotFilter{Open: true}, state.Page{Size: 1, Token: token})
	want(t, err, state.ErrBadToken)
	open("snp_2") // which is not ready
	in.Deleting = true
	check(t, s.UpdateSnapshot(t.Context(), in))
	open("snp_2", "snp_1")
	got, err = s.Snapshot(t.Context(), "snp_1")
	check(t, err)
	if !got.Deleting || !got.Ready || got.View().GetState() != brokerv1.SnapshotState_SNAPSHOT_STATE_DELETING {
		t.Errorf("it is %+v", got)
	}
	in.Deleting = false
	check(t, s.UpdateSnapshot(t.Context(), in))
	open("snp_2")
	check(t, s.RemoveSnapshot(t.Context(), "snp_1"))
	check(t, s.RemoveSnapshot(t.Context(), "snp_1"))
	_, err = s.Snapshot(t.Context(), "snp_1")
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "default", "r")
	want(t, err, state.ErrNotFound)
}

func owner(t *testing.T, s state.Store) {
	first, err := s.Owner(t.Context())
	check(t, err)
	second, err := s.Owner(t.Context())
	check(t, err)
	if first == "" || first != second {
		t.Errorf("owner is %q, then %q", first, second)
	}
}

func sortedDown(ids []int) []int {
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids
}
