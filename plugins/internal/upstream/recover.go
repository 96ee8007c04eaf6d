package upstream

import (
	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Each calls do for 0 to n-1, several at once, and returns the first error when all
// have returned.
func Each(n int, do func(i int) error) error {
	const atOnce = 8
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i := range n {
		all.Go(func() error { return do(i) })
	}
	return all.Wait()
}

// BySandbox asks for a sandbox.
func BySandbox(ref *providerv1.SandboxRef) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref}}
}

// ExplainAbout is Explain for an answer that may mean no more than that a sandbox is not
// there or does not run: what get says of it counts.
func ExplainAbout(ref *providerv1.SandboxRef, cause error, changes bool, get func(*providerv1.GetSandboxRequest) (*providerv1.Sandbox, error)) error {
	sb, err := get(BySandbox(ref))
	switch {
	case err != nil:
		return err
	case sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		return NotRunning(ref.GetSandboxId(), sb)
	}
	return Explain(cause, changes)
}

// Recover says of each sandbox what get says: that it is there, or is gone, or that
// it cannot be known.
func Recover(refs []*providerv1.SandboxRef, get func(*providerv1.GetSandboxRequest) (*providerv1.Sandbox, error)) *providerv1.RecoverResponse {
	out := make([]*providerv1.Recovery, len(refs))
	_ = Each(len(refs), func(i int) error { // each has an answer of its own
		out[i] = &providerv1.Recovery{SandboxId: refs[i].GetSandboxId()}
		sb, err := get(BySandbox(refs[i]))
		switch {
		case err == nil:
			out[i].Outcome, out[i].Sandbox = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, sb
		case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND):
			out[i].Outcome = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE
		default:
			out[i].Outcome, out[i].Cause = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_UNKNOWN, fault.From(err).ToProto()
		}
		return nil
	})
	return &providerv1.RecoverResponse{Recoveries: out}
}
