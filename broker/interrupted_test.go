package broker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// died is the end of a call whose plugin died: nobody knows what it did. It is
// not tried again by the broker itself.
var died = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "the plugin died")

// dying returns a hook that fails a method until it is told to stop.
func dying(method string, after bool) (testvendor.Hook, func()) {
	var over atomic.Bool
	return func(_ context.Context, m string, a bool) error {
		if m == method && a == after && !over.Load() {
			return died
		}
		return nil
	}, func() { over.Store(true) }
}

// halfFork makes a sandbox and a fork of it into two of which the vendor made one
// when it died.
func halfFork(t *testing.T, opts broker.Options) (*bench, *brokerv1.ForkSandboxRequest) {
	t.Helper()
	b := newBench(t, opts)
	parent := b.create(t, &brokerv1.CreateSandboxRequest{Name: "parent"})
	hook, stop := dying("ForkCopy", false)
	b.vendor.SetHook(hook)
	req := &brokerv1.ForkSandboxRequest{Sandbox: parent.GetSandboxId(), Count: 2, IdempotencyKey: "f"}
	_, err := b.ForkSandbox(t.Context(), req)
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG); f.Effect != providerv1.Effect_EFFECT_UNKNOWN {
		t.Errorf("effect is %v, want unknown", f.Effect)
	}
	stop()
	if n := len(b.vendor.Sandboxes()); n != 2 {
		t.Fatalf("the vendor has %d sandboxes, want the original and one copy", n)
	}
	return b, req
}

// late keeps the reconciler from looking before a test does.
var late = broker.Options{Retry: time.Hour}

// TestHalfForkIsRepeated: whoever looks at the copies meanwhile, the repeated
// request makes all of them, and both can be used.
func TestHalfForkIsRepeated(t *testing.T) {
	for _, tc := range []struct {
		name string
		look func(t *testing.T, b *bench, copies []string)
	}{
		{"nobody looks", func(*testing.T, *bench, []string) {}},
		{"one copy is asked about", func(t *testing.T, b *bench, copies []string) {
			t.Helper()
			b.peek(t, copies[0])
		}},
		{"the other copy is asked about", func(t *testing.T, b *bench, copies []string) {
			t.Helper()
			b.peek(t, copies[1])
		}},
		{"the plugin is back", func(t *testing.T, b *bench, copies []string) {
			t.Helper()
			b.ProviderReady("test")
			b.awaitGone(t, copies...)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b, req := halfFork(t, late)
			tc.look(t, b, b.copiesOf(t, req.GetSandbox()))
			copies, err := b.ForkSandbox(t.Context(), req)
			check(t, err)
			if len(copies) != 2 {
				t.Fatalf("copies are %v", copies)
			}
			for _, sb := range copies {
				b.refresh(t, sb.GetSandboxId(), running)
			}
			if n := len(b.vendor.Sandboxes()); n != 3 {
				t.Errorf("the vendor has %d sandboxes, want 3", n)
			}
			b.known(t, 3)
		})
	}
}

// TestHalfForkIsSettled: a fork that nobody repeats leaves nothing, at once.
func TestHalfForkIsSettled(t *testing.T) {
	b, _ := halfFork(t, broker.Options{Retry: time.Millisecond})
	b.await(t, "the end of the copies", func(m map[string]*providerv1.Sandbox) bool { return len(m) == 1 })
	settled(t, b.Service)
	b.known(t, 1)
}

// TestWholeForkIsSettled: all copies were made and only the answer was lost.
// What happens to one copy, or to the original, is not the others' fate.
func TestWholeForkIsSettled(t *testing.T) {
	b := newBench(t, late)
	parent := b.create(t, &brokerv1.CreateSandboxRequest{})
	hook, stop := dying("ForkSandbox", true)
	b.vendor.SetHook(hook)
	req := &brokerv1.ForkSandboxRequest{Sandbox: parent.GetSandboxId(), Count: 3, IdempotencyKey: "f"}
	_, err := b.ForkSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
	stop()
	copies := b.copiesOf(t, parent.GetSandboxId())
	for _, id := range []string{parent.GetSandboxId(), copies[0]} {
		_, err := b.DeleteSandbox(t.Context(), id)
		check(t, err)
	}
	b.refresh(t, copies[1], running)
	b.refresh(t, copies[2], running)
	_, err = b.ForkSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	b.known(t, 2)
}

// TestRepeatWhileTheProviderIsDown says that nothing is known, instead of calling
// an unknown sandbox a success.
func TestRepeatWhileTheProviderIsDown(t *testing.T) {
	b, req := halfFork(t, late)
	b.vendor.SetHook(func(_ context.Context, m string, _ bool) error {
		if m == "GetSandbox" {
			return died
		}
		return nil
	})
	_, err := b.ForkSandbox(t.Context(), req)
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG); f.Effect != providerv1.Effect_EFFECT_UNKNOWN || f.Metadata["sandbox_id"] == "" {
		t.Errorf("fault is %+v", f)
	}
	b.vendor.SetHook(nil)
	_, err = b.ForkSandbox(t.Context(), req)
	check(t, err)
	b.known(t, 3)
}

// TestInterruptedCreateIsRepeated: at either side of its effect.
func TestInterruptedCreateIsRepeated(t *testing.T) {
	for _, tc := range []struct {
		method string
		make   func(ctx context.Context, b *bench) (*brokerv1.Sandbox, error)
	}{
		{"CreateSandbox", func(ctx context.Context, b *bench) (*brokerv1.Sandbox, error) {
			return b.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"})
		}},
		{"RestoreSnapshot", func(ctx context.Context, b *bench) (*brokerv1.Sandbox, error) {
			return b.RestoreSnapshot(ctx, &brokerv1.RestoreSnapshotRequest{Snapshot: "s", Name: "n", IdempotencyKey: "k"})
		}},
	} {
		for _, after := range []bool{false, true} {
			b := newBench(t, late)
			b.create(t, &brokerv1.CreateSandboxRequest{Name: "origin"})
			_, err := b.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "origin", Name: "s"})
			check(t, err)
			hook, stop := dying(tc.method, after)
			b.vendor.SetHook(hook)
			_, err = tc.make(t.Context(), b)
			want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
			stop()
			sb, err := tc.make(t.Context(), b)
			check(t, err)
			if sb.GetState() != running || len(b.vendor.Sandboxes()) != 2 {
				t.Errorf("%s, after=%v: made %v, the vendor has %v", tc.method, after, sb, b.vendor.Sandboxes())
			}
			b.known(t, 2)
		}
	}
}

// TestInterruptedSnapshot: the repeated request gets it, at either side of the
// effect; one that is not repeated gives its name back.
func TestInterruptedSnapshot(t *testing.T) {
	for _, after := range []bool{false, true} {
		b := newBench(t, broker.Options{SettleGrace: time.Nanosecond})
		b.create(t, &brokerv1.CreateSandboxRequest{Name: "origin"})
		interrupt := func(req *brokerv1.CreateSnapshotRequest) {
			t.Helper()
			hook, stop := dying("CreateSnapshot", after)
			b.vendor.SetHook(hook)
			_, err := b.CreateSnapshot(t.Context(), req)
			want(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
			stop()
		}
		req := &brokerv1.CreateSnapshotRequest{Sandbox: "origin", Name: "s", IdempotencyKey: "k"}
		interrupt(req)
		sn, err := b.CreateSnapshot(t.Context(), req)
		check(t, err)
		if !sn.GetKept().GetMemory() {
			t.Errorf("after=%v: snapshot is %v", after, sn)
		}
		interrupt(&brokerv1.CreateSnapshotRequest{Sandbox: "origin", Name: "t"})
		b.eventually(t, "the settling of the snapshot", func() bool {
			b.ProviderReady("test")
			list, err := b.ListSnapshots(t.Context(), &brokerv1.ListSnapshotsRequest{})
			check(t, err)
			if after {
				return len(list.GetSnapshots()) == 2
			}
			_, err = b.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "origin", Name: "t"})
			return err == nil
		})
	}
}

// peek asks about a sandbox, whatever the answer.
func (b *bench) peek(t *testing.T, id string) {
	t.Helper()
	_, err := b.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: id, Refresh: true})
	if err != nil && !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Fatal(err)
	}
}

func (b *bench) copiesOf(t *testing.T, parent string) (ids []string) {
	t.Helper()
	list, err := b.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
	check(t, err)
	for _, sb := range list.GetSandboxes() {
		if sb.GetParentId() == parent {
			ids = append(ids, sb.GetSandboxId())
		}
	}
	return ids
}

// known checks that the broker knows n sandboxes, all running.
func (b *bench) known(t *testing.T, n int) {
	t.Helper()
	list, err := b.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
	check(t, err)
	for _, sb := range list.GetSandboxes() {
		if sb.GetState() != running {
			t.Errorf("%s is %v: %s", sb.GetSandboxId(), sb.GetState(), sb.GetStatusReason())
		}
	}
	if len(list.GetSandboxes()) != n {
		t.Errorf("the broker knows %v, want %d", list.GetSandboxes(), n)
	}
}

func (b *bench) awaitGone(t *testing.T, ids ...string) {
	t.Helper()
	b.eventually(t, "the end of the copies", func() bool {
		for _, id := range ids {
			_, err := b.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: id})
			if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
				return false
			}
		}
		return true
	})
}

func (b *bench) eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
