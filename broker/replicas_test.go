package broker_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// held are the locks that the brokers of a test have, by name.
type held struct {
	mu sync.Mutex
	by map[string]*replicaStore
}

// replicaStore is one broker's side of a store that several share. The locks are
// the test's own: those of PostgreSQL have tests of their own.
type replicaStore struct {
	state.Store
	held *held
	// refused counts locks that another broker had.
	refused atomic.Int64
	// late is a broker that others are always quicker than.
	late atomic.Bool
	dead atomic.Bool
}

var errDead = errors.New("the broker was killed")

func (s *replicaStore) Shared() bool { return true }

func (s *replicaStore) TryLock(_ context.Context, name string) (func(), bool, error) {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	switch by := s.held.by[name]; {
	case s.dead.Load():
		return nil, false, errDead
	case by == s:
		panic("a broker locks " + name + " twice")
	case by != nil || s.late.Load():
		s.refused.Add(1)
		return nil, false, nil
	}
	s.held.by[name] = s
	return func() {
		s.held.mu.Lock()
		defer s.held.mu.Unlock()
		if s.held.by[name] == s {
			delete(s.held.by, name)
		}
	}, true, nil
}

// kill does what the end of a process does to its locks; it writes no more.
func (s *replicaStore) kill() {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	s.dead.Store(true)
	maps.DeleteFunc(s.held.by, func(_ string, by *replicaStore) bool { return by == s })
}

func (s *replicaStore) UpdateSandbox(ctx context.Context, sb *state.Sandbox) error {
	if s.dead.Load() {
		return errDead
	}
	return s.Store.UpdateSandbox(ctx, sb)
}

func (s *replicaStore) RemoveSandbox(ctx context.Context, sb *state.Sandbox) error {
	if s.dead.Load() {
		return errDead
	}
	return s.Store.RemoveSandbox(ctx, sb)
}

// replica is one of the brokers on a store.
type replica struct {
	*bench
	store *replicaStore
}

// newReplicas returns two brokers that share a store and a vendor.
func newReplicas(t *testing.T, opts broker.Options, capabilities ...string) (a, b *replica) {
	t.Helper()
	dir := t.TempDir()
	vendor := testvendor.New()
	if capabilities != nil {
		vendor.Declare(capabilities...)
	}
	stop, err := testvendor.Serve(vendor, filepath.Join(dir, "v.sock"))
	check(t, err)
	t.Cleanup(stop)
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	opts.Caller = &local
	h := &held{by: make(map[string]*replicaStore)}
	one := func() *replica {
		r := &replica{&bench{vendor: vendor, fleet: &testvendor.Fleet{}}, &replicaStore{Store: store, held: h}}
		check(t, r.fleet.Dial("test", filepath.Join(dir, "v.sock")))
		t.Cleanup(r.fleet.Close)
		r.Service, err = broker.New(t.Context(), r.store, r.fleet, opts)
		check(t, err)
		t.Cleanup(func() { r.Close(context.Background()) })
		return r
	}
	return one(), one()
}

// standing returns a hook that lets a method stand still, before its effect or
// after it, until it is told to go on.
func standing(method string, after bool) (hook testvendor.Hook, reached <-chan struct{}, goOn func()) {
	there, over := make(chan struct{}), make(chan struct{})
	var stood atomic.Bool // the first call; others pass
	return func(_ context.Context, m string, a bool) error {
		if m == method && a == after && stood.CompareAndSwap(false, true) {
			close(there)
			<-over
		}
		return nil
	}, there, sync.OnceFunc(func() { close(over) })
}

// TestReplicasWaitForEachOther: an operation on a sandbox keeps those of other
// brokers on it waiting, and the reconcilers of all from meddling, however long it
// takes.
func TestReplicasWaitForEachOther(t *testing.T) {
	a, b := newReplicas(t, broker.Options{Takeover: time.Millisecond, ReplicaLag: 5 * time.Millisecond})
	id := a.create(t, &brokerv1.CreateSandboxRequest{Name: "n"}).GetSandboxId()
	hook, reached, goOn := standing("PauseSandbox", true)
	defer goOn()
	b.vendor.SetHook(hook)
	done := make(chan error, 1)
	go func() {
		_, err := a.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: id})
		done <- err
	}()
	<-reached
	asked := b.vendor.Calls("GetSandbox")
	b.store.refused.Store(0)
	b.eventually(t, "the other broker to look", func() bool { return b.store.refused.Load() >= 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.ResumeSandbox(ctx, "n")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS)
	if n := b.vendor.Calls("GetSandbox") - asked; n != 0 {
		t.Errorf("the other broker asked %d times about a sandbox that is being paused", n)
	}
	resumed := make(chan error, 1)
	go func() {
		_, err := b.ResumeSandbox(t.Context(), "n") // waits its turn
		resumed <- err
	}()
	goOn()
	check(t, <-done)
	check(t, <-resumed)
	a.refresh(t, id, running)
	if p, r := b.vendor.Calls("PauseSandbox"), b.vendor.Calls("ResumeSandbox"); p != 1 || r != 1 {
		t.Errorf("%d pauses and %d resumes, want one each", p, r)
	}
}

// TestReplicaTakesOver: what a killed broker was doing is finished, or undone, by
// another one, which nobody has to start or to tell.
func TestReplicaTakesOver(t *testing.T) {
	for _, tc := range []struct {
		name, method string
		after        bool
		left         []providerv1.SandboxState
		do           func(context.Context, *replica, string)
	}{
		{"create not arrived", "CreateSandbox", false, nil, create},
		{"create arrived", "CreateSandbox", true, []providerv1.SandboxState{running}, create},
		{"pause not arrived", "PauseSandbox", false, []providerv1.SandboxState{running}, pauseIt},
		{"pause arrived", "PauseSandbox", true, []providerv1.SandboxState{paused}, pauseIt},
		{"delete not arrived", "DeleteSandbox", false, nil, deleteIt},
		{"delete arrived", "DeleteSandbox", true, nil, deleteIt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, b := newReplicas(t, broker.Options{Takeover: 20 * time.Millisecond, ReplicaLag: 5 * time.Millisecond, Retry: time.Millisecond})
			id := ""
			if tc.method != "CreateSandbox" {
				id = a.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
			}
			hook, reached, goOn := standing(tc.method, tc.after)
			defer goOn()
			b.vendor.SetHook(hook)
			done := make(chan struct{})
			go func() { defer close(done); tc.do(context.WithoutCancel(t.Context()), a, id) }()
			defer func() { goOn(); <-done }()
			<-reached
			a.store.kill()
			settled(t, b.Service)
			var got []providerv1.SandboxState
			for _, state := range b.states(t, &brokerv1.ListSandboxesRequest{}) {
				got = append(got, state)
			}
			if !slices.Equal(got, tc.left) {
				t.Errorf("the other broker has %v, want %v", got, tc.left)
			}
			goOn() // what arrives late changes nothing
			<-done
			if n := len(b.vendor.Sandboxes()); n != len(tc.left) {
				t.Errorf("the vendor has %d, want %d", n, len(tc.left))
			}
		})
	}
}

// The errors are those of a broker that is dead.
func create(ctx context.Context, r *replica, _ string) {
	_, _ = r.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{IdempotencyKey: "k"})
}

func pauseIt(ctx context.Context, r *replica, id string) {
	_, _ = r.PauseSandbox(ctx, &brokerv1.PauseSandboxRequest{Sandbox: id})
}

func deleteIt(ctx context.Context, r *replica, id string) { _, _ = r.DeleteSandbox(ctx, id) }

// slowReader takes nothing until it may.
type slowReader struct{ may chan struct{} }

func (r slowReader) Send(*providerv1.ReadFileResponse) error { <-r.may; return nil }

// sending is a stream of the messages in it.
type sending []*providerv1.WriteFileRequest

func (s *sending) Receive() (*providerv1.WriteFileRequest, error) {
	if len(*s) == 0 {
		return nil, io.EOF
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return next, nil
}

// TestUseAtAnotherReplica: a sandbox that is in use through one broker is not idle
// for another, however long the use takes and though the other has the lock whenever
// somebody looks; it is idle when the use is over.
func TestUseAtAnotherReplica(t *testing.T) {
	t.Parallel()
	const timeout, lag = 50 * time.Millisecond, time.Second
	opts := broker.Options{Idle: idle(timeout, brokerv1.IdleAction_IDLE_ACTION_DELETE), ReplicaLag: lag}
	a, b := newReplicas(t, opts, "fs.read", "fs.write") // commands cannot be listed
	ref := &providerv1.SandboxRef{SandboxId: a.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()}
	_, err := a.WriteFile(t.Context(), &sending{
		{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: ref, Path: "/f"}}},
		{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}},
	})
	check(t, err)
	a.store.late.Store(true)
	r := slowReader{make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- a.ReadFile(t.Context(), &providerv1.ReadFileRequest{Sandbox: ref, Path: "/f"}, r)
	}()
	began := time.Now()
	b.eventually(t, "a use that is longer than what b waits", func() bool {
		sb, err := b.store.Sandbox(t.Context(), ref.GetSandboxId())
		check(t, err)
		if sb.Status.Gone || sb.Status.State != running {
			t.Fatalf("it is %+v while it is in use", sb.Status)
		}
		return sb.LastActive().Sub(began) > 2*(timeout+3*lag)
	})
	close(r.may)
	check(t, <-done)
	b.await(t, "its end", func(m map[string]*providerv1.Sandbox) bool { return len(m) == 0 })
}
