package storetest

import (
	"errors"
	"fmt"
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

func owner(t *testing.T, s state.Store) {
	first, err := s.Owner(t.Context())
	check(t, err)
	second, err := s.Owner(t.Context())
	check(t, err)
	if first == "" || first != second {
		t.Errorf("owner is %q, then %q", first, second)
	}
}
