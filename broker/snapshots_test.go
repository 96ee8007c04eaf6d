package broker_test

import (
	"context"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	ready    = brokerv1.SnapshotState_SNAPSHOT_STATE_READY
	deleting = brokerv1.SnapshotState_SNAPSHOT_STATE_DELETING
)

// snapshots returns what the broker lists.
func snapshots(t *testing.T, s *broker.Service) []*brokerv1.Snapshot {
	t.Helper()
	list, err := s.ListSnapshots(t.Context(), &brokerv1.ListSnapshotsRequest{})
	check(t, err)
	return list.GetSnapshots()
}

// withSnapshot makes the sandbox n and a snapshot s of it.
func withSnapshot(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, broker.Options{})
	b.create(t, &brokerv1.CreateSandboxRequest{Name: "n"})
	sn, err := b.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "n", Name: "s"})
	check(t, err)
	if sn.GetState() != ready {
		t.Errorf("a new snapshot is %v", sn)
	}
	return b
}

// TestSnapshotIsDeletedLater: the wish of a delete that the provider could not carry
// out stands, and is carried out without anybody asking again.
func TestSnapshotIsDeletedLater(t *testing.T) {
	b := withSnapshot(t)
	b.vendor.SetHook(failing("DeleteSnapshot"))
	for range 2 {
		_, err := b.DeleteSnapshot(t.Context(), "s")
		want(t, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE)
		if list := snapshots(t, b.Service); len(list) != 1 || list[0].GetState() != deleting || list[0].GetStatusReason() != cut.Message {
			t.Errorf("the broker lists %v, want one that is DELETING and why", list)
		}
	}
	_, err := b.RestoreSnapshot(t.Context(), &brokerv1.RestoreSnapshotRequest{Snapshot: "s"})
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND); f.Metadata["state"] != "DELETING" {
		t.Errorf("restored: %+v", f)
	}
	_, err = b.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "n", Name: "s"})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS)
	if needed, err := b.Needed(t.Context()); err != nil || !needed {
		t.Errorf("needed is %v, %v while a snapshot is to be deleted", needed, err)
	}

	b.vendor.SetHook(nil)
	b.eventually(t, "the end of the snapshot", func() bool {
		b.ProviderReady("test")
		return len(snapshots(t, b.Service)) == 0
	})
	if n := b.vendor.Snapshots(); n != 0 {
		t.Errorf("the vendor has %d", n)
	}
	if needed, err := b.Needed(t.Context()); err != nil || needed {
		t.Errorf("needed is %v, %v afterwards", needed, err)
	}
	_, err = b.CreateSnapshot(t.Context(), &brokerv1.CreateSnapshotRequest{Sandbox: "n", Name: "s"})
	check(t, err)
}

// TestSnapshotThatIsNotDeleted: what the provider refuses for good leaves it as it was.
func TestSnapshotThatIsNotDeleted(t *testing.T) {
	b := withSnapshot(t)
	b.vendor.SetHook(once("DeleteSnapshot", false, fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "never")))
	_, err := b.DeleteSnapshot(t.Context(), "s")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED)
	if list := snapshots(t, b.Service); len(list) != 1 || list[0].GetState() != ready || list[0].GetStatusReason() != "" {
		t.Errorf("the broker lists %v, want one that is READY", list)
	}
	_, err = b.RestoreSnapshot(t.Context(), &brokerv1.RestoreSnapshotRequest{Snapshot: "s"})
	check(t, err)
	_, err = b.DeleteSnapshot(t.Context(), "s")
	check(t, err)
	if n := b.vendor.Snapshots(); n != 0 {
		t.Errorf("the vendor has %d", n)
	}
}

// TestSnapshotIsDeletedOnce: of several who delete it at once one does, and the others
// are told that it is gone.
func TestSnapshotIsDeletedOnce(t *testing.T) {
	b := withSnapshot(t)
	entered := make(chan struct{})
	leave := make(chan struct{})
	b.vendor.SetHook(func(_ context.Context, m string, after bool) error {
		if m == "DeleteSnapshot" && !after {
			close(entered) // a second call would panic
			<-leave
		}
		return nil
	})
	var wg sync.WaitGroup
	absent := make(chan bool, 3)
	remove := func() {
		was, err := b.DeleteSnapshot(t.Context(), "s")
		if err != nil {
			t.Error(err)
		}
		absent <- was
	}
	wg.Go(remove)
	<-entered
	wg.Go(remove)
	wg.Go(remove)
	b.ProviderReady("test") // its settling finds it in work
	close(leave)
	wg.Wait()
	n := 0
	for range 3 {
		if <-absent {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d of 3 were told that it was gone, want 2", n)
	}
}

// TestKilledWhileASnapshotIsDeleted: once the wish is stored nobody has to repeat it.
func TestKilledWhileASnapshotIsDeleted(t *testing.T) {
	for _, tc := range []struct {
		at    string
		stays bool
	}{
		{"before wish", true},
		{"after wish", false},
		{"vendor before", false},
		{"vendor after", false},
		{"before answer", false},
		{"after answer", false},
	} {
		t.Run(tc.at, func(t *testing.T) {
			t.Parallel()
			dir, vendor := crashSite(t, deleteSnapshot)
			killAt(t, dir, vendor, deleteSnapshot, tc.at)
			s := reopen(t, dir)
			settled(t, s)
			list := snapshots(t, s)
			if (len(list) == 1) != tc.stays || vendor.Snapshots() != len(list) {
				t.Errorf("the broker lists %v, the vendor has %d", list, vendor.Snapshots())
			}
			if tc.stays && list[0].GetState() != ready {
				t.Errorf("it is %v", list[0])
			}
			if absent, err := s.DeleteSnapshot(t.Context(), "s"); err != nil || absent == tc.stays || vendor.Snapshots() != 0 {
				t.Errorf("deleted: absent %v, %v; the vendor has %d", absent, err, vendor.Snapshots())
			}
		})
	}
}
