package testvendor

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// move changes the state of a sandbox that is in from or already in to.
func (v *Vendor) move(ctx context.Context, method, id string, from, to providerv1.SandboxState, kept *providerv1.Keeps) (*providerv1.Sandbox, error) {
	if err := v.run(ctx, method, false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	sb := v.sandboxes[id]
	if sb == nil {
		v.mu.Unlock()
		return nil, missing(id)
	}
	if sb.GetState() == from {
		sb.State, sb.Kept = to, kept
		v.note()
	}
	out := proto.CloneOf(sb)
	v.mu.Unlock()
	return out, v.run(ctx, method, true)
}

// PauseSandbox keeps everything.
func (v *Vendor) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.PauseSandboxResponse, error) {
	sb, err := v.move(ctx, "PauseSandbox", req.GetSandbox().GetSandboxId(), providerv1.SandboxState_SANDBOX_STATE_RUNNING,
		providerv1.SandboxState_SANDBOX_STATE_PAUSED, &providerv1.Keeps{Disk: true, Memory: true, Processes: true})
	return &providerv1.PauseSandboxResponse{Sandbox: sb}, err
}

// ResumeSandbox goes on.
func (v *Vendor) ResumeSandbox(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.ResumeSandboxResponse, error) {
	sb, err := v.move(ctx, "ResumeSandbox", req.GetSandbox().GetSandboxId(), providerv1.SandboxState_SANDBOX_STATE_PAUSED,
		providerv1.SandboxState_SANDBOX_STATE_RUNNING, nil)
	return &providerv1.ResumeSandboxResponse{Sandbox: sb}, err
}

// ExtendLifetime sets the end.
func (v *Vendor) ExtendLifetime(_ context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.ExtendLifetimeResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sb := v.sandboxes[req.GetSandbox().GetSandboxId()]
	if sb == nil {
		return nil, missing(req.GetSandbox().GetSandboxId())
	}
	sb.ExpiresAt = req.GetExpiresAt()
	return &providerv1.ExtendLifetimeResponse{Sandbox: proto.CloneOf(sb)}, nil
}

// ForkSandbox copies.
func (v *Vendor) ForkSandbox(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	if err := v.run(ctx, "ForkSandbox", false); err != nil {
		return nil, err
	}
	out, err := v.fork(ctx, req)
	if err != nil {
		return nil, err
	}
	return out, v.run(ctx, "ForkSandbox", true)
}

func (v *Vendor) fork(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	key := req.GetOperation().GetIdempotencyKey()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.undo(key)
	done, err := v.known(req.GetOperation())
	if err != nil {
		return nil, err
	}
	if done == nil {
		v.halves[key] = true
	}
	out := &providerv1.ForkSandboxResponse{}
	for i, id := range req.GetIdentities() {
		if done == nil && i > 0 {
			v.mu.Unlock()
			err := v.run(ctx, "ForkCopy", false)
			v.mu.Lock()
			if err != nil {
				return nil, err
			}
		}
		sb := v.sandboxes[id.GetSandboxId()]
		if done != nil && sb == nil {
			return nil, missing(id.GetSandboxId())
		}
		if sb == nil {
			sb = v.put(id, req.GetOperation(), nil)
		}
		out.Sandboxes = append(out.Sandboxes, proto.CloneOf(sb))
	}
	delete(v.halves, key)
	return out, nil
}

// CreateSnapshot notes a snapshot.
func (v *Vendor) CreateSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.CreateSnapshotResponse, error) {
	if err := v.run(ctx, "CreateSnapshot", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	from := v.sandboxes[req.GetSandbox().GetSandboxId()]
	if from == nil {
		v.mu.Unlock()
		return nil, missing(req.GetSandbox().GetSandboxId())
	}
	sn := v.snapshots[req.GetSnapshotId()]
	if sn == nil {
		sn = &providerv1.Snapshot{
			SnapshotId: req.GetSnapshotId(), Owner: from.GetIdentity().GetOwner(), SandboxId: from.GetIdentity().GetSandboxId(),
			Kept: &providerv1.Keeps{Disk: true, Memory: true}, CreatedAt: timestamppb.Now(), Labels: req.GetLabels(),
			Handle: &providerv1.Handle{Version: 1, Data: []byte("snapshot")}, SizeBytes: proto.Int64(42),
		}
		v.snapshots[sn.GetSnapshotId()] = sn
	}
	v.mu.Unlock()
	return &providerv1.CreateSnapshotResponse{Snapshot: sn}, v.run(ctx, "CreateSnapshot", true)
}

// ListSnapshots returns all of an owner on one page.
func (v *Vendor) ListSnapshots(_ context.Context, req *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := &providerv1.ListSnapshotsResponse{}
	for _, sn := range v.snapshots {
		if sn.GetOwner() == req.GetOwner() {
			out.Snapshots = append(out.Snapshots, proto.CloneOf(sn))
		}
	}
	return out, nil
}

// DeleteSnapshot drops one.
func (v *Vendor) DeleteSnapshot(ctx context.Context, req *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	if err := v.run(ctx, "DeleteSnapshot", false); err != nil {
		return nil, err
	}
	had := v.dropSnapshot(req.GetSnapshotId())
	return &providerv1.DeleteSnapshotResponse{AlreadyAbsent: !had}, v.run(ctx, "DeleteSnapshot", true)
}

func (v *Vendor) dropSnapshot(id string) (had bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, had = v.snapshots[id]
	delete(v.snapshots, id)
	return had
}

// RestoreSnapshot makes a sandbox from one.
func (v *Vendor) RestoreSnapshot(ctx context.Context, req *providerv1.RestoreSnapshotRequest) (*providerv1.RestoreSnapshotResponse, error) {
	if err := v.run(ctx, "RestoreSnapshot", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	if v.snapshots[req.GetSnapshotId()] == nil {
		v.mu.Unlock()
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q does not exist", req.GetSnapshotId())
	}
	sb, err := v.known(req.GetOperation())
	if sb == nil && err == nil {
		sb = v.put(req.GetIdentity(), req.GetOperation(), nil)
	}
	v.mu.Unlock()
	if err == nil {
		err = v.run(ctx, "RestoreSnapshot", true)
	}
	return &providerv1.RestoreSnapshotResponse{Sandbox: sb}, err
}

// CreateVolume makes a volume.
func (v *Vendor) CreateVolume(_ context.Context, req *providerv1.CreateVolumeRequest) (*providerv1.CreateVolumeResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.volumes[req.GetName()] != nil {
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "volume %q exists", req.GetName())
	}
	vol := &providerv1.Volume{Name: req.GetName(), Owner: req.GetOwner(), CreatedAt: timestamppb.Now(), Labels: req.GetLabels()}
	v.volumes[vol.GetName()] = vol
	return &providerv1.CreateVolumeResponse{Volume: proto.CloneOf(vol)}, nil
}

// ListVolumes returns all of an owner on one page.
func (v *Vendor) ListVolumes(_ context.Context, req *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := &providerv1.ListVolumesResponse{}
	for _, vol := range v.volumes {
		if vol.GetOwner() == req.GetOwner() {
			out.Volumes = append(out.Volumes, proto.CloneOf(vol))
		}
	}
	slices.SortFunc(out.Volumes, func(a, b *providerv1.Volume) int { return a.GetCreatedAt().AsTime().Compare(b.GetCreatedAt().AsTime()) })
	return out, nil
}

// DeleteVolume drops one.
func (v *Vendor) DeleteVolume(_ context.Context, req *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, had := v.volumes[req.GetName()]
	delete(v.volumes, req.GetName())
	return &providerv1.DeleteVolumeResponse{AlreadyAbsent: !had}, nil
}
