package broker

import (
	"context"
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DeleteSandbox ends a sandbox; one that does not exist is a success. When the
// provider cannot do it now the wish stays, and the reconciler repeats it until
// it is done; the error says so.
func (s *Service) DeleteSandbox(ctx context.Context, idOrName string) (alreadyAbsent bool, err error) {
	return s.DeleteSandboxWhile(ctx, &brokerv1.DeleteSandboxRequest{Sandbox: idOrName})
}

// deleteLocked stores the wish and carries it out.
func (s *Service) deleteLocked(ctx context.Context, sb *state.Sandbox, reason string) error {
	if _, err := s.apply(ctx, sb, lifecycle.AskDelete(reason)); err != nil {
		return err
	}
	return s.callDelete(ctx, sb)
}

// callDelete sends a delete that is stored as a wish. Of a sandbox whose create
// may still be on its way the key is settled after that: the provider denies it,
// or has meanwhile made what is then deleted.
func (s *Service) callDelete(ctx context.Context, sb *state.Sandbox) error {
	for {
		if err := s.deleteAtProvider(ctx, sb); err != nil {
			return s.notDeleted(ctx, sb, err)
		}
		actions, err := s.apply(ctx, sb, lifecycle.Removed(""))
		if err != nil || !slices.Contains(actions, lifecycle.Ask) {
			return err
		}
		truth := s.look(ctx, sb)
		actions, err = s.applySettlement(ctx, sb, truth)
		switch {
		case err != nil:
			return err
		case truth.Outcome == provider.Unknown:
			return withID(truth.Cause, sb.ID())
		case !slices.Contains(actions, lifecycle.CallDelete):
			return nil
		}
	}
}

// deleteAtProvider makes one attempt.
func (s *Service) deleteAtProvider(ctx context.Context, sb *state.Sandbox) error {
	began := time.Now()
	p, err := s.provider(sb.Body.GetProvider())
	if err == nil {
		_, err = p.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: sb.Ref()})
	}
	s.metrics.Operation(ctx, sb.Body.GetProvider(), telemetry.Delete, time.Since(began), err)
	return err
}

// notDeleted stores that a delete failed and returns the error to tell.
func (s *Service) notDeleted(ctx context.Context, sb *state.Sandbox, err error) error {
	f := fault.From(err)
	if _, err := s.apply(ctx, sb, failure(f)); err != nil {
		return err
	}
	return withID(f, sb.ID())
}

// PauseSandbox pauses a sandbox, keeping at least minimum or refusing. A paused
// one is a success if it kept that much.
func (s *Service) PauseSandbox(ctx context.Context, req *brokerv1.PauseSandboxRequest) (*brokerv1.Sandbox, error) {
	return s.operate(ctx, req.GetSandbox(), func(ctx context.Context, sb *state.Sandbox) error {
		if err := s.sure(ctx, sb); err != nil {
			return err
		}
		return s.pauseLocked(ctx, sb, orDisk(req.GetMinimum()), "")
	})
}

func orDisk(k *providerv1.Keeps) *providerv1.Keeps {
	if k == nil {
		return &providerv1.Keeps{Disk: true}
	}
	return k
}

// pauseLocked stores the wish and carries it out. reason, which may be empty, is
// told with the wish.
func (s *Service) pauseLocked(ctx context.Context, sb *state.Sandbox, minimum *providerv1.Keeps, reason string) error {
	actions, err := s.applyCall(ctx, sb, lifecycle.AskPause(reason), "pause")
	if err != nil {
		return err
	}
	if !slices.Contains(actions, lifecycle.CallPause) {
		return keptEnough(sb, minimum)
	}
	return s.callProvider(ctx, sb, telemetry.Pause, func(p *provider.Provider) (*providerv1.Sandbox, error) {
		resp, err := p.PauseSandbox(ctx, &providerv1.PauseSandboxRequest{Sandbox: sb.Ref(), Minimum: minimum})
		return resp.GetSandbox(), err
	})
}

// keptEnough refuses to call a pause a success that kept less than asked.
func keptEnough(sb *state.Sandbox, minimum *providerv1.Keeps) error {
	kept := sb.Body.GetObserved().GetKept()
	for _, k := range []struct {
		name        string
		asked, have bool
	}{
		{"disk", minimum.GetDisk(), kept.GetDisk()},
		{"memory", minimum.GetMemory(), kept.GetMemory()},
		{"processes", minimum.GetProcesses(), kept.GetProcesses()},
	} {
		if k.asked && !k.have {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING,
				"the sandbox is PAUSED already, and that pause did not keep its %s", k.name).With("state", "PAUSED").With("keeps", k.name)
		}
	}
	return nil
}

// ResumeSandbox resumes a paused sandbox; a running one is a success.
func (s *Service) ResumeSandbox(ctx context.Context, idOrName string) (*brokerv1.Sandbox, error) {
	return s.operate(ctx, idOrName, func(ctx context.Context, sb *state.Sandbox) error {
		if err := s.sure(ctx, sb); err != nil {
			return err
		}
		return s.resumeLocked(ctx, sb)
	})
}

func (s *Service) resumeLocked(ctx context.Context, sb *state.Sandbox) error {
	if sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		sb.Admission = &quota.Demand{At: s.opts.Clock(), Rate: sb.Body.GetRate()}
	}
	actions, err := s.applyCall(ctx, sb, lifecycle.AskResume(), "pause")
	if err != nil || !slices.Contains(actions, lifecycle.CallResume) {
		return err
	}
	s.uses.touch(sb.ID()) // being resumed is a use, or it would be idle again at once
	return s.callProvider(ctx, sb, telemetry.Resume, func(p *provider.Provider) (*providerv1.Sandbox, error) {
		resp, err := p.ResumeSandbox(ctx, &providerv1.ResumeSandboxRequest{Sandbox: sb.Ref()})
		return resp.GetSandbox(), err
	})
}

// applyCall is apply for a wish that leads to a call, refused before anything is
// stored if the provider cannot be called or lacks the capability.
func (s *Service) applyCall(ctx context.Context, sb *state.Sandbox, ev lifecycle.Event, capability string) ([]lifecycle.Action, error) {
	p, err := s.provider(sb.Body.GetProvider())
	if err != nil {
		return nil, err
	}
	set, err := p.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	if err := set.Need(capability, ""); err != nil {
		return nil, err
	}
	return s.apply(ctx, sb, ev)
}

// callProvider carries out a stored pause or resume and applies the answer. A
// lost answer is settled at once if the provider can be asked.
func (s *Service) callProvider(ctx context.Context, sb *state.Sandbox, op telemetry.Operation, call func(*provider.Provider) (*providerv1.Sandbox, error)) error {
	began := time.Now()
	p, err := s.provider(sb.Body.GetProvider())
	var vendor *providerv1.Sandbox
	if err == nil {
		vendor, err = call(p)
	}
	s.metrics.Operation(ctx, sb.Body.GetProvider(), op, time.Since(began), err)
	if err == nil {
		_, err = s.applyObserved(ctx, sb, vendor)
		return err
	}
	f := fault.From(err)
	if _, err := s.apply(ctx, sb, failure(f)); err != nil {
		return err
	}
	if f.Effect != providerv1.Effect_EFFECT_NONE {
		if _, err := s.ask(ctx, sb); err != nil {
			return err
		}
	}
	return f
}

// sure asks the provider first where what is stored is not the settled truth, so
// that a wish is judged by what is true now.
func (s *Service) sure(ctx context.Context, sb *state.Sandbox) error {
	if sb.Status.Settled() || sb.Status.Pending == lifecycle.Delete {
		return nil
	}
	if _, err := s.ask(ctx, sb); err != nil {
		return err
	}
	if sb.Status.Gone {
		return notFound(sb.ID())
	}
	return nil
}
