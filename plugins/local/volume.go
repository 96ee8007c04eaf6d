package local

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// CreateVolume implements sdk.VolumeKeeper.
func (d *Driver) CreateVolume(_ context.Context, req *providerv1.CreateVolumeRequest) (*providerv1.Volume, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	v := &providerv1.Volume{Name: req.GetName(), Owner: req.GetOwner(), CreatedAt: now(), Labels: req.GetLabels()}
	err = store.CreateVolume(v)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "volume %q exists", v.GetName()).With("volume", v.GetName())
	}
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_UNKNOWN, "create volume: %w", err)
	}
	return v, nil
}

// ListVolumes implements sdk.VolumeKeeper.
func (d *Driver) ListVolumes(_ context.Context, req *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	names, err := store.VolumeNames(req.GetOwner())
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "list volumes: %w", err)
	}
	out := &providerv1.ListVolumesResponse{}
	size := pageSize(req.GetPageSize())
	for _, name := range names {
		if strings.Compare(name, req.GetPageToken()) <= 0 {
			continue
		}
		v, err := store.Volume(req.GetOwner(), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, internal(providerv1.Effect_EFFECT_NONE, "read volume: %w", err)
		}
		if used, err := folderSize(store.VolumeData(req.GetOwner(), name)); err == nil {
			v.UsedBytes = proto.Int64(used)
		}
		if len(out.Volumes) == size {
			out.NextPageToken = out.Volumes[size-1].GetName()
			break
		}
		out.Volumes = append(out.Volumes, v)
	}
	return out, nil
}

// DeleteVolume implements sdk.VolumeKeeper.
func (d *Driver) DeleteVolume(_ context.Context, req *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	if _, err := store.Volume(req.GetOwner(), req.GetName()); errors.Is(err, fs.ErrNotExist) {
		return &providerv1.DeleteVolumeResponse{AlreadyAbsent: true}, nil
	}
	user, err := d.volumeUser(store, req.GetOwner(), req.GetName())
	if err != nil {
		return nil, err
	}
	if user != "" {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE, "volume %q is mounted by %q", req.GetName(), user).
			With("volume", req.GetName()).With("used_by", user)
	}
	if err := store.RemoveVolume(req.GetOwner(), req.GetName()); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_APPLIED, "remove volume: %w", err)
	}
	return &providerv1.DeleteVolumeResponse{}, nil
}

// volumeUser returns a sandbox or snapshot that mounts the volume, or "".
func (d *Driver) volumeUser(store *record.Store, owner, name string) (string, error) {
	ids, err := store.SandboxIDs()
	if err != nil {
		return "", internal(providerv1.Effect_EFFECT_NONE, "list sandboxes: %w", err)
	}
	for _, id := range ids {
		rec, err := store.Sandbox(id)
		if err == nil && rec.Sandbox.GetIdentity().GetOwner() == owner && mounts(rec.Spec, name) {
			return id, nil
		}
	}
	return "", nil
}

func mounts(spec *providerv1.SandboxSpec, volume string) bool {
	return slices.ContainsFunc(spec.GetMounts(), func(m *providerv1.Mount) bool { return m.GetVolume() == volume })
}
