package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// GetSandbox returns one sandbox; with refresh, after asking its provider.
func (s *Service) GetSandbox(ctx context.Context, req *brokerv1.GetSandboxRequest) (*brokerv1.Sandbox, error) {
	s.verifying.wait(ctx)
	sb, err := s.findLive(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	if req.GetRefresh() {
		if sb, err = s.refresh(ctx, sb.ID()); err != nil {
			return nil, err
		}
		if sb.Status.Gone {
			return nil, notFound(req.GetSandbox())
		}
	}
	return s.view(sb), nil
}

// refresh asks the provider about a sandbox and returns the outcome, gone or not.
func (s *Service) refresh(ctx context.Context, id string) (*state.Sandbox, error) {
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := s.find(ctx, id)
	if err != nil || sb.Status.Gone {
		return sb, err
	}
	if _, err := s.ask(ctx, sb); err != nil {
		return nil, err
	}
	return sb, nil
}

// view is what a user is told: what is stored, unless the provider cannot be
// asked; nobody knows then what is true now.
func (s *Service) view(sb *state.Sandbox) *brokerv1.Sandbox {
	if why := s.unverified(sb.Body.GetProvider()); why != "" {
		if next, _, err := lifecycle.Step(sb.Status, lifecycle.Unreachable(why)); err == nil {
			sb.Status = next
		}
	}
	v := sb.View()
	if last := s.uses.lastUse(sb.ID(), time.Now()); last.After(sb.LastActive()) {
		v.LastActiveAt = timestamppb.New(last)
	}
	return v
}

// ListSandboxes returns one page of live sandboxes, the newest first.
func (s *Service) ListSandboxes(ctx context.Context, req *brokerv1.ListSandboxesRequest) (*brokerv1.ListSandboxesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	s.verifying.wait(ctx)
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	f, some := filter(who, state.Filter{Labels: req.GetLabels(), Provider: req.GetProvider(), States: req.GetStates()})
	if !some {
		return &brokerv1.ListSandboxesResponse{}, nil
	}
	if len(f.States) > 0 && s.anyUnverified() {
		return s.listByView(ctx, f, state.Page{Size: size, Token: req.GetPageToken()})
	}
	page := state.Page{Size: size, Token: req.GetPageToken()}
	rows, next, err := s.store.ListSandboxes(ctx, f, page)
	if err == nil && s.freshen(ctx, f.Tenant+"\x00"+page.Token, rows) {
		rows, next, err = s.store.ListSandboxes(ctx, f, page)
	}
	if err != nil {
		return nil, listFault(err, req.GetPageToken())
	}
	out := &brokerv1.ListSandboxesResponse{NextPageToken: next}
	for _, sb := range rows {
		out.Sandboxes = append(out.Sandboxes, s.view(sb))
	}
	return out, nil
}

func (s *Service) anyUnverified() bool {
	return slices.ContainsFunc(s.providers.Names(), func(name string) bool { return s.unverified(name) != "" })
}

// listByView filters by the state that users see, where that differs from the
// stored one. Pages may then be short; only an empty token ends the listing.
func (s *Service) listByView(ctx context.Context, f state.Filter, p state.Page) (*brokerv1.ListSandboxesResponse, error) {
	states := f.States
	f.States = nil
	rows, next, err := s.store.ListSandboxes(ctx, f, p)
	if err != nil {
		return nil, listFault(err, p.Token)
	}
	out := &brokerv1.ListSandboxesResponse{NextPageToken: next}
	for _, sb := range rows {
		if v := s.view(sb); slices.Contains(states, v.GetState()) {
			out.Sandboxes = append(out.Sandboxes, v)
		}
	}
	return out, nil
}

func listFault(err error, token string) error {
	if errors.Is(err, state.ErrBadToken) {
		return fault.Field("page_token", token, "want the token that the page before returned, with the same filter")
	}
	return state.Fault(err)
}

// ExtendSandbox sets a new end of life, at the provider too if it ends sandboxes
// by itself.
func (s *Service) ExtendSandbox(ctx context.Context, req *brokerv1.ExtendSandboxRequest) (*brokerv1.Sandbox, error) {
	end := req.GetExpiresAt().AsTime()
	if req.GetExpiresAt() == nil || req.GetExpiresAt().CheckValid() != nil {
		return nil, fault.Field("expires_at", "", "want a time")
	}
	if err := validateEnd(end, time.Now()); err != nil {
		return nil, err
	}
	return s.operate(ctx, req.GetSandbox(), func(ctx context.Context, sb *state.Sandbox) error {
		if !sb.Expires().IsZero() && end.Before(sb.Expires()) {
			return fault.Field("expires_at", end.UTC().Format(time.RFC3339Nano),
				"want a time after the present end of life, "+sb.Expires().UTC().Format(time.RFC3339Nano))
		}
		if sb.Status.Pending == lifecycle.Delete {
			return refusedState(sb)
		}
		if sb.Body.GetSpec().GetLifetime() != nil {
			p, err := s.provider(sb.Body.GetProvider())
			if err != nil {
				return err
			}
			resp, err := p.ExtendLifetime(ctx, &providerv1.ExtendLifetimeRequest{Sandbox: sb.Ref(), ExpiresAt: req.GetExpiresAt()})
			if err != nil {
				return err
			}
			sb.Body.ExpiresAt = req.GetExpiresAt()
			_, err = s.applyObserved(ctx, sb, resp.GetSandbox())
			return err
		}
		sb.Body.ExpiresAt = req.GetExpiresAt()
		return s.save(ctx, sb, sb.Status, nil)
	})
}

// refusedState says that a sandbox is not in a state for a call.
func refusedState(sb *state.Sandbox) error {
	_, _, err := lifecycle.Step(sb.Status, lifecycle.AskUse())
	return withID(err, sb.ID())
}

// operate runs fn on a live sandbox under its lock, detached from the caller's
// cancellation, and returns the sandbox as it is then.
func (s *Service) operate(ctx context.Context, idOrName string, fn func(context.Context, *state.Sandbox) error) (*brokerv1.Sandbox, error) {
	found, err := s.findLive(ctx, idOrName)
	if err != nil {
		return nil, err
	}
	about(ctx, found)
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	unlock, err := s.lock(ctx, found.ID())
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := s.findLive(opCtx, found.ID())
	if err != nil {
		return nil, err
	}
	if err := fn(opCtx, sb); err != nil {
		return nil, withID(err, sb.ID())
	}
	return s.view(sb), nil
}
