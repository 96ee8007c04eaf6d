package broker

import (
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
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
	// Default returns the name of the provider for volumes whose request names none,
	// and for sandboxes among equals, or "" if there is no provider at all.
	Default() string
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
