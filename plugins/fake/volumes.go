package fake

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func noVolume(name string) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND, "volume %q does not exist", name).With("volume", name)
}

func (v *volume) proto() *providerv1.Volume {
	used := v.Root.size()
	return &providerv1.Volume{
		Name: v.Name, Owner: v.Owner, CreatedAt: timestamppb.New(v.CreatedAt), UsedBytes: &used, Labels: v.Labels,
	}
}

// CreateVolume implements sdk.VolumeKeeper.
func (d *Driver) CreateVolume(ctx context.Context, req *providerv1.CreateVolumeRequest) (*providerv1.Volume, error) {
	return during(ctx, d, "CreateVolume", func(c *cloud) (*providerv1.Volume, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		key := volumeKey{req.GetOwner(), req.GetName()}
		if c.volumes[key] != nil {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "volume %q exists", req.GetName()).With("volume", req.GetName())
		}
		v := &volume{Owner: req.GetOwner(), Name: req.GetName(), Labels: req.GetLabels(), CreatedAt: c.now(), Root: newFolder(c.now())}
		if err := c.store.write("volumes", v.fileName(), v); err != nil {
			return nil, err
		}
		c.volumes[key] = v
		return v.proto(), nil
	})
}

// ListVolumes implements sdk.VolumeKeeper. A page token is the name of the last
// one seen.
func (d *Driver) ListVolumes(ctx context.Context, req *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error) {
	return during(ctx, d, "ListVolumes", func(c *cloud) (*providerv1.ListVolumesResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var all []*volume
		for key, v := range c.volumes {
			if key.owner == req.GetOwner() && key.name > req.GetPageToken() {
				all = append(all, v)
			}
		}
		slices.SortFunc(all, func(a, b *volume) int { return cmp.Compare(a.Name, b.Name) })
		out := &providerv1.ListVolumesResponse{}
		for _, v := range all[:min(len(all), int(req.GetPageSize()))] {
			out.Volumes = append(out.Volumes, v.proto())
		}
		if n := len(out.GetVolumes()); n < len(all) {
			out.NextPageToken = all[n-1].Name
		}
		return out, nil
	})
}

// DeleteVolume implements sdk.VolumeKeeper.
func (d *Driver) DeleteVolume(ctx context.Context, req *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	return during(ctx, d, "DeleteVolume", func(c *cloud) (*providerv1.DeleteVolumeResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		key := volumeKey{req.GetOwner(), req.GetName()}
		v := c.volumes[key]
		if v == nil {
			return &providerv1.DeleteVolumeResponse{AlreadyAbsent: true}, nil
		}
		for _, b := range c.owners[req.GetOwner()] {
			for _, m := range b.Spec.M.GetMounts() {
				if m.GetVolume() == req.GetName() {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE,
						"volume %q is mounted by sandbox %q", req.GetName(), b.Identity.ID).
						With("volume", req.GetName()).With("used_by", b.Identity.ID)
				}
			}
		}
		if err := c.store.remove("volumes", v.fileName()); err != nil {
			return nil, err
		}
		delete(c.volumes, key)
		return &providerv1.DeleteVolumeResponse{}, nil
	})
}
