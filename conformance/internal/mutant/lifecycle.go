package mutant

import (
	"context"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func lifecycleMutants() []Mutant {
	return []Mutant{{
		ID: "create/idempotent-serial~new-id", Kills: "create/idempotent-serial",
		Bug:    "every call of CreateSandbox makes a sandbox, whatever its key",
		Driver: func(d *fake.Driver) sdk.Driver { return &forgetfulKeys{d} },
	}}
}

// forgetfulKeys gives each call a key of its own.
type forgetfulKeys struct{ *fake.Driver }

func (d *forgetfulKeys) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	fresh := clone(req)
	fresh.Operation.IdempotencyKey = newKey()
	if sb, err := d.GetSandbox(ctx, bySandboxID(req.GetIdentity().GetSandboxId())); err == nil && sb != nil {
		fresh.Identity.SandboxId += "-again"
	}
	return d.Driver.CreateSandbox(ctx, fresh)
}
