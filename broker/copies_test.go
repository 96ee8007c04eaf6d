package broker_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestForkSnapshotRestore(t *testing.T) {
	b := newBench(t, broker.Options{})
	parent := b.create(t, &brokerv1.CreateSandboxRequest{Labels: map[string]string{"a": "1", "b": "1"}})
	req := &brokerv1.ForkSandboxRequest{Sandbox: parent.GetSandboxId(), Count: 3, Labels: map[string]string{"b": "2"}, IdempotencyKey: "f"}
	b.vendor.SetHook(once("ForkSandbox", true, cut))
	for range 2 {
		copies, err := b.ForkSandbox(t.Context(), req)
		check(t, err)
		if len(copies) != 3 || copies[0].GetParentId() != parent.GetSandboxId() || copies[2].GetLabels()["a"] != "1" || copies[2].GetLabels()["b"] != "2" {
			t.Fatalf("copies are %v", copies)
		}
	}
	if n := b.vendor.Made(); n != 4 {
		t.Errorf("%d sandboxes were made, want 4", n)
	}
	snap := &brokerv1.CreateSnapshotRequest{Sandbox: parent.GetSandboxId(), Name: "s", IdempotencyKey: "s"}
	first, err := b.CreateSnapshot(t.Context(), snap)
	check(t, err)
	again, err := b.CreateSnapshot(t.Context(), snap)
	check(t, err)
	if again.GetSnapshotId() != first.GetSnapshotId() || !first.GetKept().GetMemory() {
		t.Errorf("snapshots are %v and %v", first, again)
	}
	restored, err := b.RestoreSnapshot(t.Context(), &brokerv1.RestoreSnapshotRequest{Snapshot: "s", Name: "r"})
	check(t, err)
	if restored.GetState() != running || restored.GetParentId() != first.GetSnapshotId() {
		t.Errorf("restored %v", restored)
	}
	for _, absent := range []bool{false, true} {
		got, err := b.DeleteSnapshot(t.Context(), "s")
		check(t, err)
		if got != absent {
			t.Errorf("delete says already_absent=%v, want %v", got, absent)
		}
	}
	_, err = b.RestoreSnapshot(t.Context(), &brokerv1.RestoreSnapshotRequest{Snapshot: "s"})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND)
}

func TestOperationsQueueAndGiveUp(t *testing.T) {
	b := newBench(t, broker.Options{})
	sb := b.create(t, &brokerv1.CreateSandboxRequest{})
	entered, leave := make(chan struct{}), make(chan struct{})
	b.vendor.SetHook(func(_ context.Context, m string, after bool) error {
		if m == "PauseSandbox" && !after {
			close(entered)
			<-leave
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: sb.GetSandboxId()}); err != nil {
			t.Error(err)
		}
	})
	<-entered
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := b.ResumeSandbox(ctx, sb.GetSandboxId())
	if err == nil {
		t.Error("resumed while it was being paused")
	}
	wg.Go(func() {
		if _, err := b.DeleteSandbox(t.Context(), sb.GetSandboxId()); err != nil {
			t.Error(err)
		}
	})
	close(leave)
	wg.Wait()
	b.empty(t)
}

func TestVolumes(t *testing.T) {
	b := newBench(t, broker.Options{})
	_, err := b.CreateVolume(t.Context(), &brokerv1.CreateVolumeRequest{Name: "v"})
	check(t, err)
	list, err := b.ListVolumes(t.Context(), "")
	check(t, err)
	if len(list.GetVolumes()) != 1 || list.GetVolumes()[0].GetProvider() != "test" {
		t.Errorf("volumes are %v", list)
	}
	_, err = b.ListVolumes(t.Context(), "nobody")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED)
}
