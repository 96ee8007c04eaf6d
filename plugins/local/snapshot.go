package local

import (
	"context"
	"errors"
	"io/fs"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func now() *timestamppb.Timestamp { return timestamppb.Now() }

func snapshotNotFound(id string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q does not exist", id).With("snapshot_id", id)
}

// ListSnapshots implements sdk.Snapshotter.
func (d *Driver) ListSnapshots(_ context.Context, req *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	ids, err := store.SnapshotIDs()
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "list snapshots: %w", err)
	}
	out := &providerv1.ListSnapshotsResponse{}
	size := pageSize(req.GetPageSize())
	for _, id := range ids {
		if id <= req.GetPageToken() {
			continue
		}
		snap, _, err := store.Snapshot(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, internal(providerv1.Effect_EFFECT_NONE, "read snapshot: %w", err)
		}
		if snap.GetOwner() != req.GetOwner() {
			continue
		}
		if len(out.Snapshots) == size {
			out.NextPageToken = out.Snapshots[size-1].GetSnapshotId()
			break
		}
		out.Snapshots = append(out.Snapshots, snap)
	}
	return out, nil
}

// DeleteSnapshot implements sdk.Snapshotter. A sandbox that is being made from
// the snapshot has its files open and does not mind.
func (d *Driver) DeleteSnapshot(ctx context.Context, req *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	store, _, unlock, err := d.locked(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, _, err := store.Snapshot(req.GetSnapshotId()); errors.Is(err, fs.ErrNotExist) {
		return &providerv1.DeleteSnapshotResponse{AlreadyAbsent: true}, nil
	}
	if err := store.RemoveSnapshot(req.GetSnapshotId()); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_APPLIED, "remove snapshot: %w", err)
	}
	d.release(ctx, req.GetSnapshotId())
	return &providerv1.DeleteSnapshotResponse{}, nil
}

// RestoreSnapshot implements sdk.Snapshotter.
func (d *Driver) RestoreSnapshot(ctx context.Context, req *providerv1.RestoreSnapshotRequest) (*providerv1.Sandbox, error) {
	store, conf, unlock, err := d.locked(ctx, "restore/"+req.GetSnapshotId()+"/"+req.GetIdentity().GetSandboxId())
	if err != nil {
		return nil, err
	}
	defer unlock()
	_, spec, err := store.Snapshot(req.GetSnapshotId())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, snapshotNotFound(req.GetSnapshotId())
	}
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read snapshot: %w", err)
	}
	spec.Lifetime = req.GetLifetime()
	return d.make(ctx, makeRequest{
		store: store, conf: conf, operation: req.GetOperation(), identity: req.GetIdentity(), spec: spec,
		boot: &shim.Boot{Checkpoint: shim.CheckpointDir(store.SnapshotDir(req.GetSnapshotId()))},
	})
}
