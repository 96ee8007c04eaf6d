package fake

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func cleanPath(p string) string { return path.Clean(p) }

func (c *cloud) usage(b *box) *providerv1.Usage {
	active := b.Active
	if !b.Since.IsZero() {
		active += c.now().Sub(b.Since)
	}
	var disk int64
	if b.Root != nil {
		disk = b.Root.size() - b.Base.size()
	}
	disk, pids, none := max(disk, 0), int64(len(b.live.procs)), int64(0)
	// A tenth of a cent for each minute, so that budgets have something to count.
	cost := int64(active/time.Minute) * 1000
	return &providerv1.Usage{
		DiskBytes: &disk, Pids: &pids, NetworkRxBytes: &none, NetworkTxBytes: &none,
		Active: durationpb.New(active), CostMicroUsd: &cost,
	}
}

// spare returns the sandbox's files as they are now, as a tree of their own.
func (b *box) spare() *node {
	if b.Root != nil {
		return b.Root.clone()
	}
	return b.Base
}

// CreateSnapshot implements sdk.Snapshotter.
func (d *Driver) CreateSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.Snapshot, error) {
	return during(ctx, d, "CreateSnapshot", func(c *cloud) (*providerv1.Snapshot, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		ids, err := c.replay(req.GetOperation())
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if s := c.snapshots[id]; s != nil {
				return s.proto(), nil
			}
		}
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		if c.snapshots[req.GetSnapshotId()] != nil {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "snapshot %q exists", req.GetSnapshotId()).
				With("snapshot_id", req.GetSnapshotId())
		}
		s := &savedTree{
			ID: req.GetSnapshotId(), Owner: b.Identity.Owner, Sandbox: b.Identity.ID, CreatedAt: c.now(), Labels: req.GetLabels(),
			Operation: operation{Key: req.GetOperation().GetIdempotencyKey(), Digest: req.GetOperation().GetRequestDigest()},
			Root:      b.spare(),
		}
		s.Spec.M = b.Spec.M
		if err := c.store.write("snapshots", s.ID, s); err != nil {
			return nil, err
		}
		c.snapshots[s.ID] = s
		c.spend(s.Operation, s.ID)
		return s.proto(), nil
	})
}

func (s *savedTree) proto() *providerv1.Snapshot {
	size := s.Root.size()
	return &providerv1.Snapshot{
		SnapshotId: s.ID, Owner: s.Owner, SandboxId: s.Sandbox, Kept: &providerv1.Keeps{Disk: true},
		CreatedAt: timestamppb.New(s.CreatedAt), SizeBytes: &size, Labels: s.Labels, VendorId: "fake-" + s.ID,
		Handle: &providerv1.Handle{Version: 1, Data: []byte(s.ID)},
	}
}

// ListSnapshots implements sdk.Snapshotter. A page token is the id of the last
// one seen.
func (d *Driver) ListSnapshots(ctx context.Context, req *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	return during(ctx, d, "ListSnapshots", func(c *cloud) (*providerv1.ListSnapshotsResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var all []*savedTree
		for _, s := range c.snapshots {
			if s.Owner == req.GetOwner() && s.ID > req.GetPageToken() {
				all = append(all, s)
			}
		}
		slices.SortFunc(all, func(a, b *savedTree) int { return cmp.Compare(a.ID, b.ID) })
		out := &providerv1.ListSnapshotsResponse{}
		for _, s := range all[:min(len(all), int(req.GetPageSize()))] {
			out.Snapshots = append(out.Snapshots, s.proto())
		}
		if n := len(out.GetSnapshots()); n < len(all) {
			out.NextPageToken = all[n-1].ID
		}
		return out, nil
	})
}

// DeleteSnapshot implements sdk.Snapshotter.
func (d *Driver) DeleteSnapshot(ctx context.Context, req *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	return during(ctx, d, "DeleteSnapshot", func(c *cloud) (*providerv1.DeleteSnapshotResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := c.store.remove("snapshots", req.GetSnapshotId()); err != nil {
			return nil, err
		}
		_, there := c.snapshots[req.GetSnapshotId()]
		delete(c.snapshots, req.GetSnapshotId())
		return &providerv1.DeleteSnapshotResponse{AlreadyAbsent: !there}, nil
	})
}

// RestoreSnapshot implements sdk.Snapshotter.
func (d *Driver) RestoreSnapshot(ctx context.Context, req *providerv1.RestoreSnapshotRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "RestoreSnapshot", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if made, err := c.made(req.GetOperation()); made != nil || err != nil {
			return made, err
		}
		s := c.snapshots[req.GetSnapshotId()]
		if s == nil {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q does not exist", req.GetSnapshotId()).
				With("snapshot_id", req.GetSnapshotId())
		}
		if err := c.room(d.config(), req.GetIdentity().GetSandboxId(), 1); err != nil {
			return nil, err
		}
		spec, _ := proto.Clone(s.Spec.M).(*providerv1.SandboxSpec)
		if req.GetLifetime() != nil {
			spec.Lifetime = req.GetLifetime()
		}
		if err := checkLimits(spec); err != nil {
			return nil, err
		}
		b := c.newBox(req.GetIdentity(), req.GetOperation(), spec, s.Root)
		var err error
		if b.Overlays, err = c.overlays(b); err != nil {
			return nil, err
		}
		if err := c.add(b); err != nil {
			return nil, err
		}
		return c.proto(b), nil
	})
}

// ForkSandbox implements sdk.Forker. The whole fork happens under the vendor's
// lock: all copies are made, or none.
func (d *Driver) ForkSandbox(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	return during(ctx, d, "ForkSandbox", func(c *cloud) (*providerv1.ForkSandboxResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		ids, err := c.replay(req.GetOperation())
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 {
			return c.forked(ids)
		}
		if n := len(req.GetIdentities()); n > maxCopies {
			return nil, exceeded("max_copies", int64(n), maxCopies)
		}
		b, err := c.findRunning(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		for _, id := range req.GetIdentities() {
			if err := c.room(d.config(), id.GetSandboxId(), len(req.GetIdentities())); err != nil {
				return nil, err
			}
		}
		return c.fork(b, req)
	})
}

// fork stores its intent first, so that a plugin that is killed between two
// copies leaves none: load takes back what an intent stands for.
func (c *cloud) fork(b *box, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	out := &providerv1.ForkSandboxResponse{}
	key := req.GetOperation().GetIdempotencyKey()
	intent := make([]string, len(req.GetIdentities()))
	for i, id := range req.GetIdentities() {
		intent[i] = id.GetSandboxId()
	}
	if err := c.store.write(forkIntents, key, intent); err != nil {
		return nil, err
	}
	var made []*box
	for _, id := range req.GetIdentities() {
		f := c.newBox(id, req.GetOperation(), b.Spec.M, b.spare())
		f.Overlays = make(map[string]*node, len(b.Overlays))
		for target, tree := range b.Overlays {
			f.Overlays[target] = tree.clone()
		}
		if err := c.add(f); err != nil {
			for _, m := range made {
				c.discard(m)
			}
			return nil, errors.Join(err, c.store.remove(forkIntents, key))
		}
		made = append(made, f)
		out.Sandboxes = append(out.Sandboxes, c.proto(f))
	}
	return out, c.store.remove(forkIntents, key)
}

// discard takes back a sandbox that nobody has seen yet.
func (c *cloud) discard(b *box) {
	if b.live.expiry != nil {
		b.live.expiry.Stop()
	}
	delete(c.boxes, b.Identity.ID)
	delete(c.keys, b.Operation.Key)
	c.owners[b.Identity.Owner] = slices.DeleteFunc(c.owners[b.Identity.Owner], func(o *box) bool { return o == b })
	if err := c.store.remove("sandboxes", b.Identity.ID); err != nil {
		c.log.Error("removing a stored sandbox failed", "sandbox_id", b.Identity.ID, "error", err)
	}
	c.notify(b)
}

// forked answers a fork that happened before.
func (c *cloud) forked(ids []string) (*providerv1.ForkSandboxResponse, error) {
	out := &providerv1.ForkSandboxResponse{}
	for _, id := range ids {
		b, err := c.find(id)
		if err != nil {
			return nil, err
		}
		out.Sandboxes = append(out.Sandboxes, c.proto(b))
	}
	return out, nil
}
