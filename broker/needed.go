package broker

import (
	"context"

	"github.com/sandbar-dev/sandbar/broker/state"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Needed reports whether a sandbox depends on a broker that runs: because its
// provider would not end it in time, because it is to be ended or paused when it
// is idle, or because an operation on it is unfinished. A snapshot whose making or
// whose delete is unfinished does too.
func (s *Service) Needed(ctx context.Context) (bool, error) {
	open, _, err := s.store.ListSnapshots(ctx, state.SnapshotFilter{Open: true}, state.Page{Size: 1})
	if err != nil {
		return false, state.Fault(err)
	}
	if len(open) > 0 {
		return true, nil
	}
	for token := ""; ; {
		rows, next, err := s.store.ListSandboxes(ctx, state.Filter{}, state.Page{Size: maxPage, Token: token})
		if err != nil {
			return false, state.Fault(err)
		}
		for _, sb := range rows {
			native := sb.Body.GetSpec().GetLifetime() != nil
			if !sb.Expires().IsZero() && !native || !sb.IdleAt().IsZero() || !sb.Status.Settled() {
				return true, nil
			}
		}
		if token = next; token == "" {
			return false, nil
		}
	}
}

// ProbeProvider asks a provider whether it could make sandboxes now.
func (s *Service) ProbeProvider(ctx context.Context, name string) (*providerv1.ProbeResponse, error) {
	p, err := s.provider(name)
	if err != nil {
		return nil, err
	}
	return p.Probe(ctx, &providerv1.ProbeRequest{})
}

// NotConfigured is the error for a provider that there is not, or nil.
func (s *Service) NotConfigured(name string) error {
	_, err := s.provider(name)
	return err
}
