package broker

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Providers finds the configured providers.
type Providers interface {
	// Provider returns a provider by name; false if none has it. Its calls wait
	// for a plugin that starts.
	Provider(name string) (*provider.Provider, bool)
	// Unreachable says why a provider cannot be asked now, or "". It does not
	// call the provider.
	Unreachable(name string) string
	// Names returns the configured providers in order of configuration.
	Names() []string
	// Default returns the name of the provider for requests that name none, or
	// "" if there is no provider at all.
	Default() string
}

// Placer chooses the provider for a new sandbox.
type Placer interface {
	Place(ctx context.Context, req *brokerv1.CreateSandboxRequest) (provider string, err error)
}

// namedOrDefault is the Placer that does what the request says.
type namedOrDefault struct{ providers Providers }

func (p namedOrDefault) Place(_ context.Context, req *brokerv1.CreateSandboxRequest) (string, error) {
	if req.GetProvider() != "" {
		return req.GetProvider(), nil
	}
	if name := p.providers.Default(); name != "" {
		return name, nil
	}
	return "", fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED, "no provider is configured: add one to the configuration")
}

// provider returns a configured provider.
func (s *Service) provider(name string) (*provider.Provider, error) {
	p, ok := s.providers.Provider(name)
	if !ok {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED,
			"provider %q is not configured; configured are %q", name, s.providers.Names()).With("provider", name)
	}
	return p, nil
}

// operation returns a fresh key and the digest of req.
func operation(req proto.Message) *providerv1.Operation {
	return &providerv1.Operation{IdempotencyKey: provider.NewKey(), RequestDigest: provider.Digest(req)}
}

func newSandboxID() string  { return "sbx_" + provider.NewKey() }
func newSnapshotID() string { return "snp_" + provider.NewKey() }
func newExecID() string     { return "exe_" + provider.NewKey() }
