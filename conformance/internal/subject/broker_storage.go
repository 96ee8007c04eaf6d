package subject

import (
	"context"
	"encoding/hex"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// snapshotID is the broker's id of a snapshot. One that nobody remembers is
// looked for among all.
func (c *brokerConn) snapshotID(ctx context.Context, ours string) (string, error) {
	theirs, ok := c.names.their(ours)
	if ok || ours == "" {
		return theirs, nil
	}
	req := &brokerv1.ListSnapshotsRequest{}
	for {
		var page brokerv1.ListSnapshotsResponse
		if err := c.call(ctx, "ListSnapshots", req, &page); err != nil {
			return "", err
		}
		for _, s := range page.GetSnapshots() {
			if s.GetLabels()[labelSnapshot] == ours {
				return s.GetSnapshotId(), nil
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return ours, nil
		}
	}
}

// snapshot is one of the broker's as the contract has it.
func (c *brokerConn) snapshot(s *brokerv1.Snapshot) *providerv1.Snapshot {
	return &providerv1.Snapshot{
		SnapshotId: c.names.our(s.GetSnapshotId()), Owner: s.GetLabels()[labelOwner], SandboxId: c.names.our(s.GetSandboxId()),
		Kept: s.GetKept(), CreatedAt: s.GetCreatedAt(), SizeBytes: s.SizeBytes, Labels: withoutOurs(s.GetLabels()),
	}
}

// createSnapshot gives the snapshot to the owner of its sandbox.
func (c *brokerConn) createSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.CreateSnapshotResponse, error) {
	id, err := c.sandboxID(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	op := req.GetOperation()
	var resp brokerv1.CreateSnapshotResponse
	err = c.call(ctx, "CreateSnapshot", &brokerv1.CreateSnapshotRequest{
		Sandbox: id, Minimum: req.GetMinimum(), IdempotencyKey: op.GetIdempotencyKey(),
		Labels: labelled(req.GetLabels(), map[string]string{
			labelSnapshot: req.GetSnapshotId(), labelOwner: c.names.identity(id, nil).GetOwner(),
			labelKey: op.GetIdempotencyKey(), labelDigest: hex.EncodeToString(op.GetRequestDigest()),
		}),
	}, &resp)
	if err != nil {
		return nil, err
	}
	c.names.snapshot(req.GetSnapshotId(), resp.GetSnapshot().GetSnapshotId())
	return &providerv1.CreateSnapshotResponse{Snapshot: c.snapshot(resp.GetSnapshot())}, nil
}

// listSnapshots takes the owner's out of the broker's pages, which may leave a
// page empty.
func (c *brokerConn) listSnapshots(ctx context.Context, req *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	var page brokerv1.ListSnapshotsResponse
	err := c.call(ctx, "ListSnapshots", &brokerv1.ListSnapshotsRequest{PageSize: req.GetPageSize(), PageToken: req.GetPageToken()}, &page)
	if err != nil {
		return nil, err
	}
	out := &providerv1.ListSnapshotsResponse{NextPageToken: page.GetNextPageToken()}
	for _, s := range page.GetSnapshots() {
		if s.GetProvider() == c.provider && s.GetLabels()[labelOwner] == req.GetOwner() {
			out.Snapshots = append(out.Snapshots, c.snapshot(s))
		}
	}
	return out, nil
}

func (c *brokerConn) deleteSnapshot(ctx context.Context, req *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	id, err := c.snapshotID(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	var resp brokerv1.DeleteSnapshotResponse
	if err := c.call(ctx, "DeleteSnapshot", &brokerv1.DeleteSnapshotRequest{Snapshot: id}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.DeleteSnapshotResponse{AlreadyAbsent: resp.GetAlreadyAbsent()}, nil
}

// volume is one of the broker's as the contract has it. A broker owns all its
// volumes itself; whose one is says a label.
func volume(v *providerv1.Volume) *providerv1.Volume {
	return &providerv1.Volume{
		Name: v.GetName(), Owner: v.GetLabels()[labelOwner], CreatedAt: v.GetCreatedAt(), UsedBytes: v.UsedBytes, Labels: withoutOurs(v.GetLabels()),
	}
}

func (c *brokerConn) createVolume(ctx context.Context, req *providerv1.CreateVolumeRequest) (*providerv1.CreateVolumeResponse, error) {
	var resp brokerv1.CreateVolumeResponse
	err := c.call(ctx, "CreateVolume", &brokerv1.CreateVolumeRequest{
		Name: req.GetName(), Provider: c.provider, Labels: labelled(req.GetLabels(), map[string]string{labelOwner: req.GetOwner()}),
	}, &resp)
	if err != nil {
		return nil, err
	}
	return &providerv1.CreateVolumeResponse{Volume: volume(resp.GetVolume().GetVolume())}, nil
}

// listVolumes answers all at once: the API has no pages of volumes.
func (c *brokerConn) listVolumes(ctx context.Context, req *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error) {
	var resp brokerv1.ListVolumesResponse
	if err := c.call(ctx, "ListVolumes", &brokerv1.ListVolumesRequest{Provider: c.provider}, &resp); err != nil {
		return nil, err
	}
	out := &providerv1.ListVolumesResponse{}
	for _, v := range resp.GetVolumes() {
		if v.GetVolume().GetLabels()[labelOwner] == req.GetOwner() {
			out.Volumes = append(out.Volumes, volume(v.GetVolume()))
		}
	}
	return out, nil
}

func (c *brokerConn) deleteVolume(ctx context.Context, req *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	var resp brokerv1.DeleteVolumeResponse
	if err := c.call(ctx, "DeleteVolume", &brokerv1.DeleteVolumeRequest{Name: req.GetName(), Provider: c.provider}, &resp); err != nil {
		return nil, err
	}
	return &providerv1.DeleteVolumeResponse{AlreadyAbsent: resp.GetAlreadyAbsent()}, nil
}
