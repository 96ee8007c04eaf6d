package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// locked opens the store and takes a sandbox's lock.
func (d *Driver) locked(ctx context.Context, id string) (*record.Store, config, func(), error) {
	store, conf, err := d.open()
	if err != nil {
		return nil, config{}, nil, err
	}
	unlock, err := d.locks.lock(ctx, id)
	return store, conf, unlock, err
}

// notRunning refuses a call that needs a running sandbox.
func notRunning(sb *providerv1.Sandbox) *fault.Error {
	why := ""
	if sb.GetStatusReason() != "" {
		why = ": " + sb.GetStatusReason()
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING,
		"sandbox %q is %s%s", sb.GetIdentity().GetSandboxId(), stateName(sb.GetState()), why).
		With("sandbox_id", sb.GetIdentity().GetSandboxId()).With("state", stateName(sb.GetState()))
}

// move takes a sandbox from one state to another under its lock. Being there
// already is a success.
func (d *Driver) move(ctx context.Context, ref *providerv1.SandboxRef, from, to providerv1.SandboxState,
	change func(store *record.Store, conf config, id string) error,
) (*providerv1.Sandbox, error) {
	id := ref.GetSandboxId()
	store, conf, unlock, err := d.locked(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := d.refresh(store, id)
	switch {
	case err != nil:
		return nil, err
	case sb.GetState() == to:
		return sb, nil
	case sb.GetState() != from:
		return nil, notRunning(sb)
	}
	if err := change(store, conf, id); err != nil {
		return nil, err
	}
	return d.refresh(store, id)
}

// PauseSandbox implements sdk.Pauser. The shim saves the guest, writes the
// record and ends; what is left is a folder.
func (d *Driver) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	return d.move(ctx, req.GetSandbox(), providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_PAUSED,
		func(store *record.Store, _ config, id string) error {
			client, err := d.shims.client(id, store.SandboxDir(id))
			if err != nil {
				return internal(providerv1.Effect_EFFECT_NONE, "reach sandbox: %w", err)
			}
			if _, err := client.PauseSandbox(ctx, req); err != nil {
				return d.shimError(store, id, err)
			}
			d.shims.drop(id)
			if err := shim.AwaitEnd(ctx, store.SandboxDir(id)); err != nil {
				return internal(providerv1.Effect_EFFECT_APPLIED, "end paused sandbox's process: %w", err)
			}
			return nil
		})
}

// ResumeSandbox implements sdk.Pauser. Until the guest runs again the record
// says PAUSED and the checkpoint stays, so that a failed attempt costs nothing.
func (d *Driver) ResumeSandbox(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error) {
	return d.move(ctx, req.GetSandbox(), providerv1.SandboxState_SANDBOX_STATE_PAUSED, providerv1.SandboxState_SANDBOX_STATE_RUNNING,
		func(store *record.Store, conf config, id string) error {
			rec, err := store.Sandbox(id)
			if err != nil {
				return internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
			}
			root, err := rootOf(ctx, conf, rec.Spec)
			if err != nil {
				return err
			}
			return d.boot(ctx, store, conf, id, &shim.Boot{
				Root: root, Checkpoint: shim.CheckpointDir(store.SandboxDir(id)), DropCheckpoint: true,
				VolumeData: volumeData(store, rec.Sandbox.GetIdentity().GetOwner(), rec.Spec),
			})
		})
}

// CreateSnapshot implements sdk.Snapshotter. A running sandbox is saved and goes
// on; of a paused one the checkpoint is shared, since nothing changes it.
func (d *Driver) CreateSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.Snapshot, error) {
	id := req.GetSandbox().GetSandboxId()
	store, conf, unlock, err := d.locked(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	settled, err := d.locks.lock(ctx, keyLock(req.GetOperation().GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	defer settled()
	key, fresh, err := store.Spend(req.GetOperation(), []string{req.GetSnapshotId()})
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "spend idempotency key: %w", err)
	}
	if !fresh {
		if snap, _, err := store.Snapshot(key.IDs[0]); err == nil {
			return snap, nil
		}
	}
	snap, err := d.snapshot(ctx, store, conf, id, req)
	if err != nil {
		d.release(ctx, req.GetSnapshotId())
		return nil, errors.Join(err, store.RemoveSnapshot(req.GetSnapshotId()), store.Forget(req.GetOperation().GetIdempotencyKey()))
	}
	return snap, nil
}

func (d *Driver) snapshot(ctx context.Context, store *record.Store, conf config, id string,
	req *providerv1.CreateSnapshotRequest,
) (*providerv1.Snapshot, error) {
	sb, err := d.refresh(store, id)
	if err != nil {
		return nil, err
	}
	rec, err := store.Sandbox(id)
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
	}
	if err := lease(ctx, conf, rec.Spec, req.GetSnapshotId()); err != nil {
		return nil, err
	}
	dir := store.SnapshotDir(req.GetSnapshotId())
	if err := d.save(ctx, store, sb, req, dir); err != nil {
		return nil, err
	}
	snap := &providerv1.Snapshot{
		SnapshotId: req.GetSnapshotId(), Owner: sb.GetIdentity().GetOwner(), SandboxId: id, Kept: shim.Everything(),
		CreatedAt: now(), Labels: req.GetLabels(), VendorId: req.GetSnapshotId(), Handle: &providerv1.Handle{Version: 1},
	}
	if size, err := folderSize(dir); err == nil {
		snap.SizeBytes = proto.Int64(size)
	}
	if err := store.PutSnapshot(snap, rec.Spec); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "write record: %w", err)
	}
	return snap, nil
}

// save puts a checkpoint of a sandbox into the folder of a snapshot.
func (d *Driver) save(ctx context.Context, store *record.Store, sb *providerv1.Sandbox, req *providerv1.CreateSnapshotRequest, dir string) error {
	id := sb.GetIdentity().GetSandboxId()
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		if err := linkTree(shim.CheckpointDir(store.SandboxDir(id)), shim.CheckpointDir(dir)); err != nil {
			return internal(providerv1.Effect_EFFECT_NONE, "copy checkpoint: %w", err)
		}
		return nil
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING:
	default:
		return notRunning(sb)
	}
	client, err := d.shims.client(id, store.SandboxDir(id))
	if err != nil {
		return internal(providerv1.Effect_EFFECT_NONE, "reach sandbox: %w", err)
	}
	if _, err := client.CreateSnapshot(ctx, req); err != nil {
		return d.shimError(store, id, err)
	}
	return nil
}

// linkTree makes dst a copy of src whose files are the same files. They are
// never written again.
func linkTree(src, dst string) error {
	return filepath.WalkDir(src, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), 0o700)
		}
		return os.Link(p, filepath.Join(dst, rel))
	})
}

func folderSize(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
