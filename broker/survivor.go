package broker

import (
	"context"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DeleteSandboxWhile is DeleteSandbox that does nothing unless another sandbox, the
// survivor, lives; an empty survivor is no condition. The wish of one such delete
// is stored before the condition of another is looked at, so that two sandboxes
// that survive each other are never both deleted. With the wish the survivor gets
// the name that the request says, which no third sandbox may have.
func (s *Service) DeleteSandboxWhile(ctx context.Context, req *brokerv1.DeleteSandboxRequest) (alreadyAbsent bool, err error) {
	name := req.GetSurvivorName()
	if err := validateNameIn("survivor_name", name); err != nil {
		return false, err
	}
	if name != "" && req.GetSurvivor() == "" {
		return false, fault.Field("survivor_name", name, "want a survivor too")
	}
	absent, err := s.deleteWhile(ctx, req)
	if err == nil && absent && name != "" {
		return true, s.nameSurvivor(ctx, req.GetSurvivor(), name)
	}
	return absent, err
}

func (s *Service) deleteWhile(ctx context.Context, req *brokerv1.DeleteSandboxRequest) (alreadyAbsent bool, err error) {
	sb, err := s.find(ctx, req.GetSandbox())
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	about(ctx, sb)
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	unlock, survivor, err := s.lockWith(ctx, sb.ID(), req.GetSurvivor())
	if err != nil {
		return false, err
	}
	defer unlock()
	sb, err = s.find(opCtx, sb.ID())
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) || err == nil && sb.Status.Gone {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if survivor != "" {
		heir, err := s.lives(opCtx, survivor)
		if err != nil {
			return false, err
		}
		bequeath(sb, heir, req.GetSurvivorName())
	}
	return false, s.deleteLocked(opCtx, sb, "")
}

// bequeath gives a sandbox a name with the next change of another, which gives it up.
func bequeath(from, heir *state.Sandbox, name string) {
	if name == "" || heir.Body.GetName() == name {
		return
	}
	if from.Body.GetName() == name {
		from.Body.Name = ""
	}
	heir.Body.Name, from.Heir = name, heir
}

// nameSurvivor gives a sandbox, if it lives, the name of another that is gone already.
func (s *Service) nameSurvivor(ctx context.Context, survivor, name string) error {
	_, err := s.operate(ctx, survivor, func(ctx context.Context, sb *state.Sandbox) error {
		if sb.Body.GetName() == name || sb.Status.Pending == lifecycle.Delete {
			return nil
		}
		sb.Body.Name = name
		return s.save(ctx, sb, sb.Status, nil)
	})
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return nil
	}
	return err
}

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

// lives returns a sandbox, whose lock is held, if the provider says now that it is
// there, and nobody has asked for its end; else it refuses.
func (s *Service) lives(ctx context.Context, id string) (*state.Sandbox, error) {
	sb, err := s.findLive(ctx, id)
	if err == nil && sb.Status.Pending != lifecycle.Delete {
		_, err = s.ask(ctx, sb)
	}
	if err == nil && sb.Status.Gone {
		err = notFound(id)
	}
	if err != nil {
		return nil, notSurviving(err, id)
	}
	switch sb.Status.State {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		return sb, nil
	default:
		return nil, notSurviving(withID(refusedState(sb), id), id)
	}
}

// notSurviving says that nothing was deleted, and why.
func notSurviving(err error, survivor string) error {
	f := fault.From(err)
	f = f.With("survivor", survivor).WithEffect(providerv1.Effect_EFFECT_NONE)
	f.Message = "nothing was deleted, since the survivor does not live: " + f.Message
	return f
}
