package broker_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	running = providerv1.SandboxState_SANDBOX_STATE_RUNNING
	paused  = providerv1.SandboxState_SANDBOX_STATE_PAUSED
	failed  = providerv1.SandboxState_SANDBOX_STATE_FAILED
	unknown = providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
)

// local is who makes the calls of tests that say nothing of it.
var local = authz.Local("0")

// patience bounds every wait of the tests; reaching it fails them.
const patience = 20 * time.Second

// bench is a service over a vendor in memory.
type bench struct {
	*broker.Service
	vendor *testvendor.Vendor
	fleet  *testvendor.Fleet
}

func newBench(t *testing.T, opts broker.Options, capabilities ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{vendor: testvendor.New(), fleet: &testvendor.Fleet{}}
	if capabilities != nil {
		b.vendor.Declare(capabilities...)
	}
	stop, err := testvendor.Serve(b.vendor, filepath.Join(dir, "v.sock"))
	check(t, err)
	t.Cleanup(stop)
	check(t, b.fleet.Dial("test", filepath.Join(dir, "v.sock")))
	t.Cleanup(b.fleet.Close)
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	opts.Caller = &local
	b.Service, err = broker.New(t.Context(), store, b.fleet, opts)
	check(t, err)
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) create(t *testing.T, req *brokerv1.CreateSandboxRequest) *brokerv1.Sandbox {
	t.Helper()
	sb, err := b.CreateSandbox(t.Context(), req)
	check(t, err)
	if sb.GetState() != running {
		t.Fatalf("created %v", sb)
	}
	return sb
}

func (b *bench) refresh(t *testing.T, id string, want providerv1.SandboxState) *brokerv1.Sandbox {
	t.Helper()
	sb, err := b.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: id, Refresh: true})
	check(t, err)
	if sb.GetState() != want {
		t.Fatalf("%s is %v (%s), want %v", id, sb.GetState(), sb.GetStatusReason(), want)
	}
	return sb
}

// await waits until the vendor's sandboxes are as ok wants them.
func (b *bench) await(t *testing.T, what string, ok func(map[string]*providerv1.Sandbox) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !b.vendor.Await(ctx, ok) {
		t.Fatalf("waiting for %s; the vendor has %v", what, b.vendor.Sandboxes())
	}
}

func (b *bench) empty(t *testing.T) {
	t.Helper()
	list, err := b.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
	check(t, err)
	if len(list.GetSandboxes()) != 0 {
		t.Errorf("the broker still knows %v", list.GetSandboxes())
	}
}

func want(t *testing.T, err error, reason providerv1.ErrorReason) *fault.Error {
	t.Helper()
	if !fault.Has(err, reason) {
		t.Fatalf("error is %v, want %v", err, reason)
	}
	return fault.From(err)
}

// once returns a hook that fails a method one time.
func once(method string, after bool, err error) testvendor.Hook {
	var done sync.Once
	return func(_ context.Context, m string, a bool) (out error) {
		if m == method && a == after {
			done.Do(func() { out = err })
		}
		return out
	}
}

var (
	cut  = fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the line was cut")
	full = fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "no more of these")
)

func TestRefusedCreateLeavesNothing(t *testing.T) {
	b := newBench(t, broker.Options{})
	b.vendor.SetHook(once("CreateSandbox", false, full))
	req := &brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}
	_, err := b.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED)
	b.empty(t)
	b.create(t, req) // name and key are free
}

func TestLostAnswerMakesNoSecondSandbox(t *testing.T) {
	b := newBench(t, broker.Options{})
	b.vendor.SetHook(once("CreateSandbox", true, cut))
	b.create(t, &brokerv1.CreateSandboxRequest{})
	if n := b.vendor.Made(); n != 1 {
		t.Errorf("%d sandboxes were made, want 1", n)
	}
}

func TestLostForGoodIsSettledLater(t *testing.T) {
	b := newBench(t, broker.Options{Retry: time.Millisecond})
	b.vendor.SetHook(func(_ context.Context, m string, after bool) error {
		if m == "CreateSandbox" && after {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "confused")
		}
		return nil
	})
	_, err := b.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
	if f.Effect != providerv1.Effect_EFFECT_UNKNOWN || f.Metadata["sandbox_id"] == "" {
		t.Errorf("fault is %+v", f)
	}
	b.refresh(t, "n", running)
	if n := b.vendor.Made(); n != 1 {
		t.Errorf("%d sandboxes were made, want 1", n)
	}
}

func TestIdempotencyKey(t *testing.T) {
	b := newBench(t, broker.Options{})
	req := &brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if sb, err := b.CreateSandbox(t.Context(), req); err != nil {
				t.Error(err)
			} else {
				ids[i] = sb.GetSandboxId()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("one key made %v", ids)
		}
	}
	if n := b.vendor.Made(); n != 1 {
		t.Errorf("%d sandboxes were made, want 1", n)
	}
	_, err := b.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "m", IdempotencyKey: "k"})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	_, err = b.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{Name: "n"})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS)
	_, err = b.DeleteSandbox(t.Context(), "n")
	check(t, err)
	_, err = b.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
}

func TestMakerThatLeavesIsCleanedUpAfter(t *testing.T) {
	b := newBench(t, broker.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	b.vendor.SetHook(func(_ context.Context, m string, after bool) error {
		if m == "CreateSandbox" && !after {
			cancel()
		}
		return nil
	})
	_, err := b.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{})
	check(t, err) // nobody reads the answer
	b.empty(t)
	if n := len(b.vendor.Sandboxes()); n != 0 || b.vendor.Made() != 1 {
		t.Errorf("the vendor has %d of %d made", n, b.vendor.Made())
	}
}

func TestPauseAndResume(t *testing.T) {
	b := newBench(t, broker.Options{})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{})
	id := sb.GetSandboxId()
	sb, err := b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: id})
	check(t, err)
	if sb.GetState() != paused || !sb.GetObserved().GetKept().GetMemory() {
		t.Errorf("paused %v", sb)
	}
	_, err = b.StartExec(t.Context(), start(id))
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING); f.Metadata["state"] != "PAUSED" {
		t.Errorf("refusal names state %q", f.Metadata["state"])
	}
	sb, err = b.ResumeSandbox(t.Context(), id)
	check(t, err)
	if sb.GetState() != running {
		t.Errorf("resumed %v", sb)
	}
	for _, after := range []bool{false, true} { // a lost answer, before and after the effect
		b.vendor.SetHook(once("PauseSandbox", after, cut))
		_, err = b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: id})
		want(t, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE)
		b.refresh(t, id, map[bool]providerv1.SandboxState{false: running, true: paused}[after])
	}
}

func start(id string) *providerv1.StartExecRequest {
	return &providerv1.StartExecRequest{Sandbox: &providerv1.SandboxRef{SandboxId: id}, Spec: &providerv1.ExecSpec{Argv: []string{"sleep"}}}
}

func TestPauseWithoutTheCapabilityIsRefused(t *testing.T) {
	b := newBench(t, broker.Options{}, "egress.deny")
	sb := b.create(t, &brokerv1.CreateSandboxRequest{})
	_, err := b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: sb.GetSandboxId()})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	b.refresh(t, sb.GetSandboxId(), running)
}

func idle(timeout time.Duration, action brokerv1.IdleAction) *brokerv1.Idle {
	return &brokerv1.Idle{Timeout: durationpb.New(timeout), Action: action}
}

func TestIdlePauseAndUseThatResumes(t *testing.T) {
	b := newBench(t, broker.Options{})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{Idle: idle(50*time.Millisecond, brokerv1.IdleAction_IDLE_ACTION_PAUSE)})
	id := sb.GetSandboxId()
	b.await(t, "the pause", func(m map[string]*providerv1.Sandbox) bool { return m[id].GetState() == paused })
	_, err := b.StartExec(t.Context(), start(id))
	check(t, err)
	// The command runs: it is not idle, however long nobody calls.
	calls := b.vendor.Calls("PauseSandbox")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if b.vendor.Await(ctx, func(m map[string]*providerv1.Sandbox) bool { return m[id].GetState() == paused }) {
		t.Errorf("paused under a running command; %d pauses before", calls)
	}
}

func TestIdleDelete(t *testing.T) {
	b := newBench(t, broker.Options{Idle: idle(50*time.Millisecond, brokerv1.IdleAction_IDLE_ACTION_DELETE)})
	b.create(t, &brokerv1.CreateSandboxRequest{})
	b.await(t, "the delete", func(m map[string]*providerv1.Sandbox) bool { return len(m) == 0 })
}

func TestLifetimeIsEnforcedByTheBroker(t *testing.T) {
	b := newBench(t, broker.Options{Retry: time.Millisecond}, "egress.deny") // no lifetime.native
	b.vendor.SetHook(once("DeleteSandbox", false, full))                     // and the first delete fails
	b.create(t, &brokerv1.CreateSandboxRequest{Lifetime: durationpb.New(50 * time.Millisecond)})
	b.create(t, &brokerv1.CreateSandboxRequest{Name: "stays"})
	b.await(t, "the end", func(m map[string]*providerv1.Sandbox) bool { return len(m) == 1 })
}

func TestExtend(t *testing.T) {
	b := newBench(t, broker.Options{})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{Lifetime: durationpb.New(time.Hour)})
	end := timestamppb.New(time.Now().Add(2 * time.Hour))
	sb, err := b.ExtendSandbox(t.Context(), &brokerv1.ExtendSandboxRequest{Sandbox: sb.GetSandboxId(), ExpiresAt: end})
	check(t, err)
	if !sb.GetExpiresAt().AsTime().Equal(end.AsTime()) || !b.vendor.Sandboxes()[sb.GetSandboxId()].GetExpiresAt().AsTime().Equal(end.AsTime()) {
		t.Errorf("ends at %v, want %v, at the vendor too", sb.GetExpiresAt().AsTime(), end.AsTime())
	}
	_, err = b.ExtendSandbox(t.Context(), &brokerv1.ExtendSandboxRequest{Sandbox: sb.GetSandboxId(), ExpiresAt: timestamppb.Now()})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
}

func TestTruthAboutTheDeadAndTheUnreachable(t *testing.T) {
	b := newBench(t, broker.Options{})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{})
	id := sb.GetSandboxId()
	b.fleet.SetDown("test", "it crashed")
	list, err := b.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{States: []providerv1.SandboxState{unknown}})
	check(t, err)
	if len(list.GetSandboxes()) != 1 || !strings.Contains(list.GetSandboxes()[0].GetStatusReason(), "it crashed") {
		t.Errorf("list while the provider is down: %v", list)
	}
	b.fleet.SetDown("test", "")
	b.vendor.Kill(id)
	_, err = b.StartExec(t.Context(), start(id))
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	b.refresh(t, id, failed)
	absent, err := b.DeleteSandbox(t.Context(), id)
	check(t, err)
	if absent {
		t.Error("a failed sandbox was there to delete")
	}
	b.empty(t)
}

func TestReaper(t *testing.T) {
	b := newBench(t, broker.Options{OrphanGrace: time.Minute, ReapInterval: 10 * time.Millisecond})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{})
	plant := func(id, owner string, age time.Duration) {
		b.vendor.Plant(&providerv1.Sandbox{
			Identity: &providerv1.Identity{SandboxId: id, Owner: owner}, State: running,
			CreatedAt: timestamppb.New(time.Now().Add(-age)),
		})
	}
	plant("sbx_other", "somebody else", time.Hour)
	plant("sbx_young", b.Owner(), 0)
	plant("sbx_orphan", b.Owner(), time.Hour)
	b.await(t, "the orphan's end", func(m map[string]*providerv1.Sandbox) bool { return m["sbx_orphan"] == nil })
	if m := b.vendor.Sandboxes(); m["sbx_other"] == nil || m["sbx_young"] == nil || m[sb.GetSandboxId()] == nil {
		t.Errorf("the reaper went too far: %v", m)
	}
}
