package broker

import (
	"context"
	"errors"

	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// enforceBudgets looks at each tenant whose sandboxes do not run on when a budget
// is spent.
func (s *Service) enforceBudgets(ctx context.Context) {
	tenants, err := s.store.EnforcedTenants(ctx)
	s.logged(ctx, "budgets cannot be read", err)
	for _, t := range tenants {
		now := s.opts.Clock()
		use, err := s.store.TenantUse(ctx, t.GetName(), now)
		if err == nil {
			if spent := quota.Exhausted(t.GetLimits(), use, now); spent != nil {
				err = s.endSpending(ctx, t, spent)
			}
		}
		if !errors.Is(err, state.ErrNotFound) { // a tenant may go at any time
			s.logged(ctx, "budget is not enforced", err, "tenant", t.GetName())
		}
	}
}

// endSpending pauses or deletes what runs of a tenant whose budget is spent. What
// fails for one sandbox keeps it from none of the others.
func (s *Service) endSpending(ctx context.Context, t *brokerv1.Tenant, spent *quota.Exhaustion) error {
	filter := state.Filter{Tenant: t.GetName(), States: []providerv1.SandboxState{providerv1.SandboxState_SANDBOX_STATE_RUNNING}}
	for token := ""; ; {
		rows, next, err := s.store.ListSandboxes(ctx, filter, state.Page{Size: dueBatch, Token: token})
		if err != nil {
			return err
		}
		for _, sb := range rows {
			err := s.endOneSpending(ctx, sb.ID(), t.GetLimits().GetWhenSpent(), spent)
			s.logged(ctx, "sandbox spends on", err, "sandbox_id", sb.ID(), "provider", sb.Body.GetProvider(), "tenant", t.GetName())
		}
		if token = next; token == "" {
			return nil
		}
	}
}

// endOneSpending pauses or deletes one sandbox. One that somebody operates on is
// left to the next time.
func (s *Service) endOneSpending(ctx context.Context, id string, action brokerv1.WhenSpent, spent *quota.Exhaustion) error {
	unlock, ok, err := s.locks.tryLock(ctx, id)
	if !ok {
		return err
	}
	defer unlock()
	sb, err := s.store.Sandbox(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !sb.Status.Settled() || sb.Status.State != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil
	}
	reason := spent.String()
	if action == brokerv1.WhenSpent_WHEN_SPENT_DELETE {
		err = s.deleteLocked(ctx, sb, reason)
	} else {
		err = s.pauseAll(ctx, sb, reason)
	}
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "budget is spent", "sandbox_id", id, "provider", sb.Body.GetProvider(), "tenant", sb.Tenant(),
		"limit", spent.Limit, "spent", spent.Spent, "max", spent.Max, "action", action.String())
	return nil
}

// pauseAll pauses with all the provider can keep.
func (s *Service) pauseAll(ctx context.Context, sb *state.Sandbox, reason string) error {
	p, err := s.provider(sb.Body.GetProvider())
	if err != nil {
		return err
	}
	set, err := p.Capabilities(ctx)
	if err != nil {
		return err
	}
	return s.pauseLocked(ctx, sb, allKept(set), reason)
}
