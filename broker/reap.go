package broker

import (
	"context"
	"errors"
	"time"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// reap compares what each vendor has with what is stored: objects that carry
// this broker's label and have no row are deleted once they are old enough, and
// rows without an object are asked about.
func (s *Service) reap(ctx context.Context) {
	for _, name := range s.providers.Names() {
		if s.unverified(name) != "" {
			continue // its turn comes when it can be asked
		}
		s.logged(ctx, "provider is not reaped", s.reapProvider(ctx, name), "provider", name)
	}
}

func (s *Service) reapProvider(ctx context.Context, name string) error {
	unlock, ok, err := s.locks.tryLock(ctx, "reap "+name)
	if !ok {
		return err // another broker does it
	}
	defer unlock()
	p, err := s.provider(name)
	if err != nil {
		return err
	}
	began := time.Now()
	listed := make(map[string]bool)
	for token := ""; ; {
		resp, err := p.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: s.owner, PageSize: maxPage, PageToken: token})
		if err != nil {
			return err
		}
		for _, vendor := range resp.GetSandboxes() {
			listed[vendor.GetIdentity().GetSandboxId()] = true
			if err := s.reapOrphan(ctx, p, vendor); err != nil {
				s.logged(ctx, "orphan is not deleted yet", err, "sandbox_id", vendor.GetIdentity().GetSandboxId(), "provider", name)
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	return s.askMissing(ctx, name, listed, began)
}

// reapOrphan deletes a vendor object that no row stands for. Its row, if there
// was ever one, was stored before the object was made, so an object without a row
// has lost it for good; the grace covers vendors that are slow to make or delete.
func (s *Service) reapOrphan(ctx context.Context, p *provider.Provider, vendor *providerv1.Sandbox) error {
	id := vendor.GetIdentity().GetSandboxId()
	if vendor.GetIdentity().GetOwner() != s.owner {
		return nil // never touch what is not ours, whatever the filter let through
	}
	sb, err := s.store.Sandbox(ctx, id)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	since := vendor.GetCreatedAt().AsTime()
	switch {
	case err == nil && !sb.Status.Gone:
		return nil
	case err == nil:
		since = sb.GoneAt
	case vendor.GetCreatedAt() == nil:
		return nil // of unknown age: might be in the making by a broker of the same label
	}
	if time.Since(since) < s.opts.OrphanGrace {
		return nil
	}
	s.log.WarnContext(ctx, "orphan is deleted", "sandbox_id", id, "provider", p.Name(), "vendor_id", vendor.GetVendorId())
	_, err = p.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: id, Handle: vendor.GetHandle()},
	})
	if err == nil {
		s.metrics.OrphanDeleted(ctx, p.Name())
	}
	return err
}

// askMissing asks about settled rows that the vendor did not list. A listing may
// lag; only the answer about the sandbox itself counts.
func (s *Service) askMissing(ctx context.Context, name string, listed map[string]bool, before time.Time) error {
	for token := ""; ; {
		rows, next, err := s.store.ListSandboxes(ctx, state.Filter{Provider: name}, state.Page{Size: recoverPage, Token: token})
		if err != nil {
			return err
		}
		for _, sb := range rows {
			if listed[sb.ID()] || !sb.Status.Settled() || sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_FAILED ||
				sb.Body.GetCreatedAt().AsTime().After(before) {
				continue
			}
			if err := s.tend(ctx, sb.ID()); err != nil {
				return err
			}
		}
		if token = next; token == "" {
			return nil
		}
	}
}
