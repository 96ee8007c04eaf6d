package provider

import (
	"context"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Outcome is what became of a create whose answer was lost.
type Outcome uint8

const (
	// Unknown means that it cannot be told yet; ask again.
	Unknown Outcome = iota
	// Found means that the sandbox exists.
	Found
	// Absent means that none was made and none will be, by the provider's own word.
	Absent
)

// Settlement is the answer of Settle.
type Settlement struct {
	Outcome Outcome
	// Sandbox is set if Outcome is Found.
	Sandbox *providerv1.Sandbox
	// Cause says why Outcome is Unknown.
	Cause *fault.Error
}

// Settle asks what became of the create with an idempotency key. Only
// SANDBOX_NOT_FOUND said by the provider itself means Absent; every other failure
// leaves it Unknown, and the create must then not be tried elsewhere.
func (p *Provider) Settle(ctx context.Context, key string) Settlement {
	resp, err := p.GetSandbox(ctx, &providerv1.GetSandboxRequest{
		By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key},
	})
	e := fault.From(err)
	switch {
	case e == nil && resp.GetSandbox() != nil:
		return Settlement{Outcome: Found, Sandbox: resp.GetSandbox()}
	case e == nil:
		return Settlement{Cause: fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
			"provider %q answered neither a sandbox nor an error for key %q", p.name, key).With("provider", p.name)}
	case e.Wire && e.Reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND:
		return Settlement{Outcome: Absent}
	default:
		return Settlement{Cause: e}
	}
}
