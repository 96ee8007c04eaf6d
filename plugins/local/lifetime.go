package local

import (
	"context"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ExtendLifetime implements sdk.LifetimeExtender. A running sandbox's own process
// keeps to its end of life, so it is told; of a paused one there is only the
// record.
func (d *Driver) ExtendLifetime(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	id := req.GetSandbox().GetSandboxId()
	store, _, unlock, err := d.locked(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := d.refresh(store, id)
	if err != nil {
		return nil, err
	}
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		resp, err := unary(ctx, d, req.GetSandbox(), req, client.ExtendLifetime)
		return resp.GetSandbox(), err
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED:
		return extendPaused(store, req)
	}
	return nil, notRunning(sb).WithEffect(providerv1.Effect_EFFECT_NONE)
}

// extendPaused is for a caller that holds the sandbox's lock.
func extendPaused(store *record.Store, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	rec, err := store.Sandbox(req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
	}
	if err := shim.CheckExtension(rec.Sandbox, req.GetExpiresAt()); err != nil {
		return nil, err
	}
	rec.Sandbox.ExpiresAt = req.GetExpiresAt()
	if err := store.PutSandbox(rec); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_UNKNOWN, "write record: %w", err)
	}
	return rec.Sandbox, nil
}
