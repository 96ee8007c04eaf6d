package persistence

import (
	"strconv"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func itoa(n int) string { return strconv.Itoa(n) }

// snapshots are the cases about what is in a snapshot.
func snapshots() []engine.Case {
	needs := []string{"snapshot", "snapshot.disk"}
	return []engine.Case{
		{
			ID: "snapshot/restores-disk", Title: "A restored sandbox has the files of the one the snapshot was taken from.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-001", "REQ-KEEP-002"}, Needs: needs, Cost: 15,
			Run: restoresDisk,
		},
		{
			ID: "snapshot/point-in-time", Title: "What the sandbox does after the snapshot does not change the snapshot.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-001"}, Needs: needs, Cost: 15,
			Run: pointInTime,
		},
		{
			ID: "snapshot/goes-on", Title: "The sandbox runs on while and after a snapshot is taken.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-001"}, Needs: needs, Cost: 10,
			Run: snapshotGoesOn,
		},
		{
			ID: "snapshot/outlives-sandbox", Title: "A snapshot can be restored when its sandbox is gone.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-001"}, Needs: needs, Cost: 15,
			Run: outlivesSandbox,
		},
		{
			ID: "snapshot/restored-twice", Title: "Two restores of one snapshot are two sandboxes with identities of their own, and neither sees the other's files.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-002", "REQ-GUEST-005"}, Needs: needs, Cost: 20,
			Run: restoredTwice,
		},
		{
			ID: "snapshot/deleted-in-use", Title: "A snapshot that a sandbox was made from is deleted without harm to that sandbox, or refused as in use.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-003"}, Needs: needs, Cost: 15,
			Run: deletedInUse,
		},
		{
			ID: "snapshot/no-downgrade", Title: "A restore that would bring back less than asked is refused, and makes nothing.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-KEEP-001"}, Needs: needs, Denies: "snapshot.processes", Cost: 10,
			Run: restoreNoDowngrade,
		},
	}
}

func restoresDisk(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	stillMarked(t, stage.Restore(t, box.Snapshot(stage.Disk), stage.Disk), mark)
}

func pointInTime(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	snap := box.Snapshot(stage.Disk)
	box.Sh("echo changed > /tmp/d/file; echo new > /tmp/d/later").Code(0)
	copied := stage.Restore(t, snap, stage.Disk)
	stillMarked(t, copied, mark)
	if exists(copied, "/tmp/d/later") {
		t.Errorf("a file that was written after the snapshot is in it")
	}
}

func snapshotGoesOn(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Script("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 43"))
	box.Snapshot(stage.Disk)
	if got := box.Get(); got.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after the snapshot the sandbox is %s: want RUNNING", stage.StateName(got.GetState()))
	}
	box.Sh(": > /tmp/go").Code(0)
	cmd.Wait().Code(43)
}

func outlivesSandbox(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	snap := box.Snapshot(stage.Disk)
	box.Delete()
	stillMarked(t, stage.Restore(t, snap, stage.Disk), mark)
}

func restoredTwice(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	snap := box.Snapshot(stage.Disk)
	a, b := stage.Restore(t, snap, stage.Disk), stage.Restore(t, snap, stage.Disk)
	a.Sh("echo a > /tmp/d/file").Code(0)
	stillMarked(t, b, mark)
	stillMarked(t, box, mark)
	names := map[string]string{}
	for _, sb := range []*stage.Box{box, a, b} {
		name := sb.Line("uname -n")
		if other, taken := names[name]; taken {
			t.Errorf("sandboxes %s and %s share the host name %q: want one derived from each one's id", other, sb.ID(), name)
		}
		names[name] = sb.ID()
	}
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 3 {
		t.Errorf("the owner has %d sandboxes: want 3", n)
	}
}

func deletedInUse(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	snap := box.Snapshot(stage.Disk)
	copied := stage.Restore(t, snap, stage.Disk)
	_, err := t.Client().DeleteSnapshot(t.Context(), &providerv1.DeleteSnapshotRequest{SnapshotId: snap.GetSnapshotId(), Handle: snap.GetHandle()})
	if err != nil {
		f := stage.Refused(t, "DeleteSnapshot of one that a sandbox was made from", err, providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE)
		stage.NoEffect(t, "DeleteSnapshot", f)
		copied.Delete()
		_, err = t.Client().DeleteSnapshot(t.Context(), &providerv1.DeleteSnapshotRequest{SnapshotId: snap.GetSnapshotId(), Handle: snap.GetHandle()})
		stage.OK(t, "DeleteSnapshot when nothing uses it any more", err)
		return
	}
	stillMarked(t, copied, mark)
}

func restoreNoDowngrade(t *engine.T) {
	box := stage.Create(t)
	snap := box.Snapshot(stage.Disk)
	_, err := t.Client().RestoreSnapshot(t.Context(), stage.NewRestore(t, snap, stage.Processes))
	f := stage.Refused(t, "a restore with processes", err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	stage.NoEffect(t, "the restore", f)
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 1 {
		t.Errorf("the owner has %d sandboxes: want the one that the snapshot is of", n)
	}
}

// liveSnapshots are the cases about snapshots with memory and processes.
func liveSnapshots() []engine.Case {
	needs := []string{"snapshot", "snapshot.memory", "snapshot.processes"}
	return []engine.Case{
		{
			ID: "snapshot/restores-processes", Title: "In a restored sandbox the processes go on from the moment of the snapshot, with memory and open files; the original's go on too.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-SNAP-001", "REQ-KEEP-002"}, Needs: needs, Cost: 20,
			Run: restoresProcesses,
		},
		{
			ID: "snapshot/downgrade-on-request", Title: "A snapshot with processes can be restored for its files alone.",
			Profile: engine.PauseMemory, Requirements: []string{"REQ-KEEP-001", "REQ-KEEP-003"}, Needs: needs, Cost: 15,
			Run: downgradeOnRequest,
		},
	}
}

func restoresProcesses(t *engine.T) {
	box := stage.Create(t)
	w := box.StartWitness()
	snap := box.Snapshot(stage.Processes)
	w.Same("two")
	copied := w.In(stage.Restore(t, snap, stage.Processes))
	copied.Same("two")
	copied.Contiguous()
	w.Same("three")
}

func downgradeOnRequest(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	snap := box.Snapshot(stage.Processes)
	stillMarked(t, stage.Restore(t, snap, nil), mark)
}

// snapshotObjects are the cases about snapshots as objects.
func snapshotObjects() []engine.Case {
	needs := []string{"snapshot", "snapshot.disk"}
	plugin := []subject.Kind{subject.Binary, subject.InProcess}
	return []engine.Case{
		{
			ID: "snapshot/listed", Title: "A snapshot is listed for its owner alone, with its sandbox, its labels and what it kept, until it is deleted.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-001", "REQ-SNAP-004"}, Needs: needs, Kinds: plugin, Cost: 5,
			Run: snapshotListed,
		},
		{
			ID: "snapshot/idempotent", Title: "The same key makes one snapshot and one restored sandbox; with another digest it is refused.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-IDEM-001", "REQ-IDEM-002"}, Needs: needs, Kinds: plugin, Cost: 10,
			Run: snapshotIdempotent,
		},
		{
			ID: "snapshot/absent", Title: "Restoring a snapshot that does not exist is refused and makes nothing; deleting one is a success.",
			Profile: engine.Snapshot, Requirements: []string{"REQ-SNAP-004", "REQ-LIFE-005"}, Needs: needs, Cost: 5,
			Run: snapshotAbsent,
		},
	}
}

func listSnapshots(t *engine.T, owner string) []*providerv1.Snapshot {
	var out []*providerv1.Snapshot
	req := &providerv1.ListSnapshotsRequest{Owner: owner}
	for {
		resp, err := t.Client().ListSnapshots(t.Context(), req)
		stage.OK(t, "ListSnapshots", err)
		out = append(out, resp.GetSnapshots()...)
		if resp.GetNextPageToken() == "" || resp.GetNextPageToken() == req.GetPageToken() {
			return out
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

func snapshotListed(t *engine.T) {
	box := stage.Create(t)
	req := box.NewSnapshot(stage.Disk)
	req.Labels = map[string]string{"kind": "a label"}
	made, err := t.Client().CreateSnapshot(t.Context(), req)
	stage.OK(t, "CreateSnapshot", err)
	list := listSnapshots(t, t.Owner())
	if len(list) != 1 {
		t.Fatalf("the owner has %d snapshots: want 1", len(list))
	}
	s := list[0]
	if s.GetSnapshotId() != req.GetSnapshotId() || s.GetSandboxId() != box.ID() || s.GetOwner() != t.Owner() ||
		s.GetLabels()["kind"] != "a label" || stage.KeepsText(s.GetKept()) != stage.KeepsText(made.GetSnapshot().GetKept()) {
		t.Errorf("ListSnapshots tells %v: want snapshot %s of sandbox %s and owner %q with label kind", s, req.GetSnapshotId(), box.ID(), t.Owner())
	}
	if n := len(listSnapshots(t, t.Owner()+"-other")); n != 0 {
		t.Errorf("another owner has %d snapshots: want none", n)
	}
	_, err = t.Client().DeleteSnapshot(t.Context(), &providerv1.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId(), Handle: s.GetHandle()})
	stage.OK(t, "DeleteSnapshot", err)
	if n := len(listSnapshots(t, t.Owner())); n != 0 {
		t.Errorf("after it was deleted the owner has %d snapshots: want none", n)
	}
}

func snapshotIdempotent(t *engine.T) {
	box := stage.Create(t)
	req := box.NewSnapshot(stage.Disk)
	for range 2 {
		_, err := t.Client().CreateSnapshot(t.Context(), req)
		stage.OK(t, "CreateSnapshot", err)
	}
	list := listSnapshots(t, t.Owner())
	if len(list) != 1 {
		t.Fatalf("the same key made %d snapshots: want 1", len(list))
	}
	other := box.NewSnapshot(stage.Disk)
	other.Operation.IdempotencyKey = req.GetOperation().GetIdempotencyKey()
	_, err := t.Client().CreateSnapshot(t.Context(), other)
	stage.Refused(t, "CreateSnapshot with a used key and another digest", err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	restore := stage.NewRestore(t, list[0], stage.Disk)
	for range 2 {
		_, err := t.Client().RestoreSnapshot(t.Context(), restore)
		stage.OK(t, "RestoreSnapshot", err)
	}
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 2 {
		t.Errorf("the owner has %d sandboxes: want the original and one restored", n)
	}
}

func snapshotAbsent(t *engine.T) {
	absent := &providerv1.Snapshot{SnapshotId: stage.NewID("snp")}
	_, err := t.Client().RestoreSnapshot(t.Context(), stage.NewRestore(t, absent, stage.Disk))
	f := stage.Refused(t, "RestoreSnapshot of one that does not exist", err, providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND)
	stage.NoEffect(t, "RestoreSnapshot", f)
	resp, err := t.Client().DeleteSnapshot(t.Context(), &providerv1.DeleteSnapshotRequest{SnapshotId: absent.GetSnapshotId()})
	stage.OK(t, "DeleteSnapshot of one that does not exist", err)
	if !resp.GetAlreadyAbsent() {
		t.Errorf("DeleteSnapshot of one that does not exist did not say already_absent")
	}
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 0 {
		t.Errorf("the owner has %d sandboxes: want none", n)
	}
}
