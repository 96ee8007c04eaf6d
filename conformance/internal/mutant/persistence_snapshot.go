package mutant

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func snapshotMutants() []Mutant {
	return []Mutant{
		{
			ID: "snapshot/restores-disk~empty", Kills: "snapshot/restores-disk", Bug: "a restored sandbox lacks what was in folders",
			Also: []string{"snapshot/point-in-time", "snapshot/outlives-sandbox", "snapshot/restored-twice", "snapshot/deleted-in-use"},
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"RestoreSnapshot": after(func(ctx context.Context, c client, req *providerv1.RestoreSnapshotRequest, _ *providerv1.RestoreSnapshotResponse) {
					inside(ctx, c, req.GetIdentity().GetSandboxId(), "rm -r /tmp/d")
				})}
			}),
		},
		{
			ID: "snapshot/point-in-time~lazy", Kills: "snapshot/point-in-time", Bug: "the files are copied when the snapshot is restored, not when it is taken",
			Wrap: wrapping(lazySnapshots),
		},
		{
			ID: "snapshot/goes-on~kills", Kills: "snapshot/goes-on", Bug: "taking a snapshot ends what runs",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"CreateSnapshot": after(func(ctx context.Context, c client, req *providerv1.CreateSnapshotRequest, _ *providerv1.CreateSnapshotResponse) {
					killAll(ctx, c, req.GetSandbox().GetSandboxId(), nil)
				})}
			}),
		},
		{
			ID: "snapshot/outlives-sandbox~dies-with-it", Kills: "snapshot/outlives-sandbox", Bug: "deleting a sandbox deletes its snapshots",
			Wrap: wrapping(mortalSnapshots),
		},
		{
			ID: "snapshot/restored-twice~same", Kills: "snapshot/restored-twice", Bug: "a second restore answers the sandbox of the first",
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"RestoreSnapshot": sameRestore()} }),
		},
		{
			ID: "snapshot/deleted-in-use~takes-files", Kills: "snapshot/deleted-in-use", Bug: "deleting a snapshot takes the files of what was restored from it",
			Wrap: wrapping(tornSnapshots),
		},
		{
			ID: "snapshot/no-downgrade~silent", Kills: "snapshot/no-downgrade", Bug: "a restore brings back the disk alone and says nothing",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"RestoreSnapshot": before(func(_ context.Context, _ client, req *providerv1.RestoreSnapshotRequest) {
					req.Minimum = stage.Disk
				})}
			}),
		},
		{
			ID: "snapshot/listed~kept-untold", Kills: "snapshot/listed", Bug: "the list of snapshots does not say what they kept",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ListSnapshots": after(func(_ context.Context, _ client, _ *providerv1.ListSnapshotsRequest, resp *providerv1.ListSnapshotsResponse) {
					for _, s := range resp.GetSnapshots() {
						s.Kept = nil
					}
				})}
			}),
		},
		{
			ID: "snapshot/idempotent~again", Kills: "snapshot/idempotent", Bug: "a repeated call takes another snapshot",
			Wrap: wrapping(func() map[string]hook {
				seen := newMemory[int]()
				return map[string]hook{"CreateSnapshot": before(func(_ context.Context, _ client, req *providerv1.CreateSnapshotRequest) {
					if seen.change(req.GetOperation().GetIdempotencyKey(), func(n int) int { return n + 1 }) > 1 {
						req.Operation, req.SnapshotId = stage.NewOperation(), stage.NewID("snp")
					}
				})}
			}),
		},
		{
			ID: "snapshot/absent~empty-sandbox", Kills: "snapshot/absent", Bug: "restoring a snapshot that does not exist makes an empty sandbox",
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"RestoreSnapshot": emptyRestore} }),
		},
	}
}

// lazySnapshots restores what the sandbox has at that moment, if it still is.
func lazySnapshots() map[string]hook {
	of := newMemory[string]()
	return map[string]hook{
		"CreateSnapshot": after(func(_ context.Context, _ client, req *providerv1.CreateSnapshotRequest, _ *providerv1.CreateSnapshotResponse) {
			of.set(req.GetSnapshotId(), req.GetSandbox().GetSandboxId())
		}),
		"RestoreSnapshot": func(ctx context.Context, c client, req, _ proto.Message, next func(proto.Message) error) error {
			restore, ok := proto.Clone(req).(*providerv1.RestoreSnapshotRequest)
			if !ok || of.get(restore.GetSnapshotId()) == "" {
				return next(req)
			}
			now, err := c.CreateSnapshot(ctx, &providerv1.CreateSnapshotRequest{
				Sandbox: ref(of.get(restore.GetSnapshotId())), Operation: stage.NewOperation(), SnapshotId: stage.NewID("snp"),
			})
			if err != nil {
				return next(req)
			}
			late := now.GetSnapshot().GetSnapshotId()
			restore.SnapshotId, restore.Handle = late, now.GetSnapshot().GetHandle()
			err = next(restore)
			_, _ = c.DeleteSnapshot(ctx, &providerv1.DeleteSnapshotRequest{SnapshotId: late})
			return err
		},
	}
}

func mortalSnapshots() map[string]hook {
	of := newMemory[[]string]()
	return map[string]hook{
		"CreateSnapshot": after(func(_ context.Context, _ client, req *providerv1.CreateSnapshotRequest, _ *providerv1.CreateSnapshotResponse) {
			of.change(req.GetSandbox().GetSandboxId(), func(ids []string) []string { return append(ids, req.GetSnapshotId()) })
		}),
		"DeleteSandbox": after(func(ctx context.Context, c client, req *providerv1.DeleteSandboxRequest, _ *providerv1.DeleteSandboxResponse) {
			for _, id := range of.get(req.GetSandbox().GetSandboxId()) {
				_, _ = c.DeleteSnapshot(ctx, &providerv1.DeleteSnapshotRequest{SnapshotId: id})
			}
		}),
	}
}

func sameRestore() hook {
	first := newMemory[*providerv1.RestoreSnapshotResponse]()
	return func(_ context.Context, _ client, req, reply proto.Message, next func(proto.Message) error) error {
		restore, _ := req.(*providerv1.RestoreSnapshotRequest)
		if made := first.get(restore.GetSnapshotId()); made != nil {
			proto.Merge(reply, made)
			return nil
		}
		err := next(req)
		if resp, ok := reply.(*providerv1.RestoreSnapshotResponse); ok && err == nil {
			first.set(restore.GetSnapshotId(), clone(resp))
		}
		return err
	}
}

func tornSnapshots() map[string]hook {
	restored := newMemory[[]string]()
	return map[string]hook{
		"RestoreSnapshot": after(func(_ context.Context, _ client, req *providerv1.RestoreSnapshotRequest, _ *providerv1.RestoreSnapshotResponse) {
			restored.change(req.GetSnapshotId(), func(ids []string) []string { return append(ids, req.GetIdentity().GetSandboxId()) })
		}),
		"DeleteSnapshot": after(func(ctx context.Context, c client, req *providerv1.DeleteSnapshotRequest, _ *providerv1.DeleteSnapshotResponse) {
			for _, id := range restored.get(req.GetSnapshotId()) {
				inside(ctx, c, id, "rm -r /tmp/*")
			}
		}),
	}
}

func emptyRestore(ctx context.Context, c client, req, reply proto.Message, next func(proto.Message) error) error {
	err := next(req)
	restore, ok := req.(*providerv1.RestoreSnapshotRequest)
	if !ok || err == nil || !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND) {
		return err
	}
	resp, err := c.CreateSandbox(ctx, &providerv1.CreateSandboxRequest{
		Identity: restore.GetIdentity(), Operation: restore.GetOperation(), Spec: &providerv1.SandboxSpec{},
	})
	proto.Merge(reply, &providerv1.RestoreSnapshotResponse{Sandbox: resp.GetSandbox()})
	return err
}
