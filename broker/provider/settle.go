package provider

import (
	"context"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Outcome is what is known about a sandbox.
type Outcome uint8

const (
	// Unknown means that it cannot be told yet; ask again.
	Unknown Outcome = iota
	// Found means that the sandbox exists.
	Found
	// Absent means that there is none and none will be, by the provider's own word.
	Absent
)

// Settlement is the answer of Settle and Look.
type Settlement struct {
	Outcome Outcome
	// Sandbox is set if Outcome is Found.
	Sandbox *providerv1.Sandbox
	// Cause says why Outcome is Unknown.
	Cause *fault.Error
}

// Settle asks what became of the creation with an idempotency key. Of a fork,
// which made all copies or none, the answer is any one of them. While it is
// Unknown the sandbox must not be made elsewhere.
func (p *Provider) Settle(ctx context.Context, key string) Settlement {
	return p.settlement(ctx, &providerv1.GetSandboxRequest{
		By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key},
	})
}

// Look asks what is true of a sandbox that was made.
func (p *Provider) Look(ctx context.Context, ref *providerv1.SandboxRef) Settlement {
	return p.settlement(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref}})
}

// settlement asks. Only SANDBOX_NOT_FOUND said by the provider itself means
// Absent; every other failure proves nothing.
func (p *Provider) settlement(ctx context.Context, req *providerv1.GetSandboxRequest) Settlement {
	resp, err := p.GetSandbox(ctx, req)
	e := fault.From(err)
	switch {
	case e == nil && resp.GetSandbox() != nil:
		return Settlement{Outcome: Found, Sandbox: resp.GetSandbox()}
	case e == nil:
		return Settlement{Cause: fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
			"provider %q answered neither a sandbox nor an error", p.name).With("provider", p.name)}
	case e.Wire && e.Reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND:
		return Settlement{Outcome: Absent}
	default:
		return Settlement{Cause: e}
	}
}
