package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Volumes are the provider's to remember; the broker keeps no rows for them. All
// are the broker's to a provider, so whose they are is in their names: those of
// the default tenant are called what it calls them, and "data" of the tenant acme
// is called "tenant.acme.data". A tenant's name has no dot, and no name that the
// default tenant gives begins like this; so nobody can name another's.
const (
	volumePrefix = "tenant."
	maxVolume    = 63
)

// vendorVolume is what a tenant's volume is called at the provider.
func vendorVolume(field, tenant, name string) (string, error) {
	if tenant == authz.DefaultTenant {
		if strings.HasPrefix(name, volumePrefix) {
			return "", fault.Field(field, name, "want a name that does not begin with "+volumePrefix+", which other tenants' volumes do")
		}
		return name, nil
	}
	prefix := volumePrefix + tenant + "."
	if name == "" || len(prefix)+len(name) > maxVolume {
		return "", fault.Field(field, name, fmt.Sprintf("want a name of 1 to %d characters, as the tenant's own is part of it at the provider", maxVolume-len(prefix)))
	}
	return prefix + name, nil
}

// ownVolume returns whose volume it is that has a name at a provider, and what its
// owner calls it.
func ownVolume(vendor string) (tenant, name string) {
	if rest, ok := strings.CutPrefix(vendor, volumePrefix); ok {
		if tenant, name, ok := strings.Cut(rest, "."); ok {
			return tenant, name
		}
	}
	return authz.DefaultTenant, vendor
}

// visible is a volume as its owner knows it; false if the caller does not see it.
func visible(who authz.Principal, provider string, v *providerv1.Volume) (*brokerv1.Volume, bool) {
	tenant, name := ownVolume(v.GetName())
	if !who.Sees(tenant, provider, v.GetLabels()) {
		return nil, false
	}
	v = proto.CloneOf(v)
	v.Name = name
	return &brokerv1.Volume{Provider: provider, Volume: v, Tenant: tenant}, true
}

// CreateVolume makes a volume at a provider.
func (s *Service) CreateVolume(ctx context.Context, req *brokerv1.CreateVolumeRequest) (*brokerv1.Volume, error) {
	if err := s.labelsOfScope(ctx, &req.Labels); err != nil {
		return nil, err
	}
	who, err := s.maker(ctx)
	if err != nil {
		return nil, err
	}
	vendor, err := vendorVolume("name", who.Acting, req.GetName())
	if err != nil {
		return nil, err
	}
	name, p, err := s.volumeProvider(who, req.GetProvider())
	if err != nil {
		return nil, err
	}
	resp, err := p.CreateVolume(ctx, &providerv1.CreateVolumeRequest{Owner: s.owner, Name: vendor, Labels: req.GetLabels()})
	if err != nil {
		return nil, inOwnWords(err, vendor, req.GetName())
	}
	made := proto.CloneOf(resp.GetVolume())
	made.Name = req.GetName()
	return &brokerv1.Volume{Provider: name, Volume: made, Tenant: who.Acting}, nil
}

// inOwnWords puts a tenant's own name of a volume into a provider's error.
func inOwnWords(err error, vendor, own string) error {
	if err == nil || vendor == own || !strings.Contains(err.Error(), vendor) {
		return err
	}
	f := *fault.From(err)
	f.Message = strings.ReplaceAll(f.Message, vendor, own)
	out := &f
	for k, v := range f.Metadata {
		out = out.With(k, strings.ReplaceAll(v, vendor, own))
	}
	return out
}

// DeleteVolume deletes a volume at a provider; one that does not exist, or not for
// the caller, is a success.
func (s *Service) DeleteVolume(ctx context.Context, req *brokerv1.DeleteVolumeRequest) (alreadyAbsent bool, err error) {
	who, err := s.maker(ctx)
	if err != nil {
		return false, err
	}
	vendor, err := vendorVolume("name", who.Acting, req.GetName())
	if err != nil {
		return false, err
	}
	name, p, err := s.volumeProvider(who, req.GetProvider())
	if err != nil {
		return false, err
	}
	if len(who.Scope.GetLabels()) > 0 {
		have, err := s.volumeNames(ctx, name, p)
		if err != nil || !slices.Contains(have, req.GetName()) {
			return err == nil, err
		}
	}
	resp, err := p.DeleteVolume(ctx, &providerv1.DeleteVolumeRequest{Owner: s.owner, Name: vendor})
	return resp.GetAlreadyAbsent(), inOwnWords(err, vendor, req.GetName())
}

func (s *Service) volumeProvider(who authz.Principal, name string) (string, *provider.Provider, error) {
	if name == "" {
		name = s.providers.Default()
	}
	if err := who.NeedProvider(name); err != nil {
		return name, nil, err
	}
	p, err := s.provider(name)
	return name, p, err
}

// ListVolumes lists the volumes of one provider, or of all that have volumes.
// With all, one that cannot be asked is reported beside the others' volumes.
func (s *Service) ListVolumes(ctx context.Context, provider string) (*brokerv1.ListVolumesResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	out := &brokerv1.ListVolumesResponse{}
	if provider != "" {
		_, p, err := s.volumeProvider(who, provider)
		if err != nil {
			return nil, err
		}
		return out, s.appendVolumes(ctx, who, out, provider, p)
	}
	for _, name := range s.names(who) {
		p, err := s.provider(name)
		if err == nil {
			err = s.appendVolumesIfAny(ctx, who, out, name, p)
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

func (s *Service) appendVolumesIfAny(ctx context.Context, who authz.Principal, out *brokerv1.ListVolumesResponse, name string, p *provider.Provider) error {
	set, err := p.Capabilities(ctx)
	if err != nil || !set.Has("volume") {
		return err
	}
	return s.appendVolumes(ctx, who, out, name, p)
}

func (s *Service) appendVolumes(ctx context.Context, who authz.Principal, out *brokerv1.ListVolumesResponse, name string, p *provider.Provider) error {
	for token := ""; ; {
		resp, err := p.ListVolumes(ctx, &providerv1.ListVolumesRequest{Owner: s.owner, PageSize: maxPage, PageToken: token})
		if err != nil {
			return err
		}
		for _, v := range resp.GetVolumes() {
			if v, ok := visible(who, name, v); ok {
				out.Volumes = append(out.Volumes, v)
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			return nil
		}
	}
}

// volumeNames returns the names of a provider's volumes that the caller sees.
func (s *Service) volumeNames(ctx context.Context, name string, p *provider.Provider) ([]string, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	have := &brokerv1.ListVolumesResponse{}
	err = s.appendVolumes(ctx, who, have, name, p)
	var out []string
	for _, v := range have.GetVolumes() {
		out = append(out, v.GetVolume().GetName())
	}
	return out, err
}

// withVolumes returns a spec with volumes as the provider calls them. One that the
// caller does not see does not exist; whether it exists at all is otherwise the
// provider's to say.
func (s *Service) withVolumes(ctx context.Context, who authz.Principal, name string, p *provider.Provider, spec *providerv1.SandboxSpec) (*providerv1.SandboxSpec, error) {
	if !slices.ContainsFunc(spec.GetMounts(), func(m *providerv1.Mount) bool { return m.GetVolume() != "" }) {
		return spec, nil
	}
	asked := proto.CloneOf(spec)
	var have []string
	for i, m := range spec.GetMounts() {
		if m.GetVolume() == "" {
			continue
		}
		field := fmt.Sprintf("spec.mounts[%d].volume", i)
		vendor, err := vendorVolume(field, who.Acting, m.GetVolume())
		if err != nil {
			return nil, err
		}
		if len(who.Scope.GetLabels()) > 0 {
			if have == nil {
				if have, err = s.volumeNames(ctx, name, p); err != nil {
					return nil, err
				}
			}
			if !slices.Contains(have, m.GetVolume()) {
				return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND, "volume %q does not exist", m.GetVolume()).
					With("volume", m.GetVolume()).With(fault.MetaField, field)
			}
		}
		if vendor != m.GetVolume() {
			asked.Mounts[i].Source = &providerv1.Mount_Volume{Volume: vendor}
		}
	}
	return asked, nil
}
