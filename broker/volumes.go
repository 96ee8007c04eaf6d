package broker

import (
	"context"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Volumes are the provider's to remember; the broker keeps no rows for them.

// CreateVolume makes a volume at a provider.
func (s *Service) CreateVolume(ctx context.Context, req *brokerv1.CreateVolumeRequest) (*brokerv1.Volume, error) {
	if err := validateLabels(req.GetLabels()); err != nil {
		return nil, err
	}
	name, p, err := s.volumeProvider(req.GetProvider())
	if err != nil {
		return nil, err
	}
	resp, err := p.CreateVolume(ctx, &providerv1.CreateVolumeRequest{Owner: s.owner, Name: req.GetName(), Labels: req.GetLabels()})
	if err != nil {
		return nil, err
	}
	return &brokerv1.Volume{Provider: name, Volume: resp.GetVolume()}, nil
}

// DeleteVolume deletes a volume at a provider.
func (s *Service) DeleteVolume(ctx context.Context, req *brokerv1.DeleteVolumeRequest) (alreadyAbsent bool, err error) {
	_, p, err := s.volumeProvider(req.GetProvider())
	if err != nil {
		return false, err
	}
	resp, err := p.DeleteVolume(ctx, &providerv1.DeleteVolumeRequest{Owner: s.owner, Name: req.GetName()})
	return resp.GetAlreadyAbsent(), err
}

func (s *Service) volumeProvider(name string) (string, *provider.Provider, error) {
	if name == "" {
		name = s.providers.Default()
	}
	p, err := s.provider(name)
	return name, p, err
}

// ListVolumes lists the volumes of one provider, or of all that have volumes.
// With all, one that cannot be asked is reported beside the others' volumes.
func (s *Service) ListVolumes(ctx context.Context, provider string) (*brokerv1.ListVolumesResponse, error) {
	out := &brokerv1.ListVolumesResponse{}
	if provider != "" {
		_, p, err := s.volumeProvider(provider)
		if err != nil {
			return nil, err
		}
		return out, s.appendVolumes(ctx, out, provider, p)
	}
	for _, name := range s.providers.Names() {
		p, err := s.provider(name)
		if err == nil {
			err = s.appendVolumesIfAny(ctx, out, name, p)
		}
		if err != nil {
			if out.Unreachable == nil {
				out.Unreachable = make(map[string]string)
			}
			out.Unreachable[name] = fault.From(err).Message
		}
	}
	return out, nil
}

func (s *Service) appendVolumesIfAny(ctx context.Context, out *brokerv1.ListVolumesResponse, name string, p *provider.Provider) error {
	set, err := p.Capabilities(ctx)
	if err != nil || !set.Has("volume") {
		return err
	}
	return s.appendVolumes(ctx, out, name, p)
}

func (s *Service) appendVolumes(ctx context.Context, out *brokerv1.ListVolumesResponse, name string, p *provider.Provider) error {
	for token := ""; ; {
		resp, err := p.ListVolumes(ctx, &providerv1.ListVolumesRequest{Owner: s.owner, PageSize: maxPage, PageToken: token})
		if err != nil {
			return err
		}
		for _, v := range resp.GetVolumes() {
			out.Volumes = append(out.Volumes, &brokerv1.Volume{Provider: name, Volume: v})
		}
		if token = resp.GetNextPageToken(); token == "" {
			return nil
		}
	}
}
