package broker

import (
	"context"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// lockWith takes the locks of a sandbox and of its survivor, if there is one, whose
// id it returns. They are taken in the order of ids, so that two calls that name
// each other's sandboxes cannot wait for each other.
func (s *Service) lockWith(ctx context.Context, id, survivor string) (unlock func(), survivorID string, err error) {
	if survivor == "" {
		unlock, err = s.lock(ctx, id)
		return unlock, "", err
	}
	sb, err := s.findLive(ctx, survivor)
	if err != nil {
		return nil, "", notSurviving(err, survivor)
	}
	survivorID = sb.ID()
	if survivorID == id {
		return nil, "", fault.Field("survivor", survivor, "want another sandbox than the one to delete")
	}
	first, err := s.lock(ctx, min(id, survivorID))
	if err != nil {
		return nil, "", err
	}
	second, err := s.lock(ctx, max(id, survivorID))
	if err != nil {
		first()
		return nil, "", err
	}
	return func() { second(); first() }, survivorID, nil
}

// lives refuses unless the provider says now that a sandbox, whose lock is held, is
// there, and nobody has asked for its end.
func (s *Service) lives(ctx context.Context, id string) error {
	sb, err := s.findLive(ctx, id)
	if err == nil && sb.Status.Pending != lifecycle.Delete {
		_, err = s.ask(ctx, sb)
	}
	if err == nil && sb.Status.Gone {
		err = notFound(id)
	}
	if err != nil {
		return notSurviving(err, id)
	}
	switch sb.Status.State {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		return nil
	default:
		return notSurviving(withID(refusedState(sb), id), id)
	}
}

// notSurviving says that nothing was deleted, and why.
func notSurviving(err error, survivor string) error {
	f := fault.From(err)
	f = f.With("survivor", survivor).WithEffect(providerv1.Effect_EFFECT_NONE)
	f.Message = "nothing was deleted, since the survivor does not live: " + f.Message
	return f
}
