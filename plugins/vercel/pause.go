package vercel

import (
	"context"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// # Pausing
//
// The vendor keeps the disk of a sandbox that is persistent when its session ends, and
// starts the next session from it. Sandboxes of ours are persistent only while they
// are paused: what ends otherwise is to leave nothing. A session has a timeout of its
// own, so that of the next one is what is left of the lifetime.

// shortestKept is the least that a disk is kept for, because how short that may be is
// not documented.
const shortestKept = 24 * time.Hour

// standing is what the vendor says of a sandbox now, and in the contract's words.
func (d *Driver) standing(ctx context.Context, ref *providerv1.SandboxRef) (*api.SandboxAnswer, *providerv1.Sandbox, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, nil, err
	}
	return d.look(ctx, c, at.Name, ref.GetSandboxId())
}

// alone is standing for a call that changes the sandbox: until leave is called, no other
// does.
func (d *Driver) alone(ctx context.Context, ref *providerv1.SandboxRef) (found *api.SandboxAnswer, sb *providerv1.Sandbox, leave func(), err error) {
	leave, err = d.keys.Enter(ctx, ref.GetSandboxId())
	if err != nil {
		return nil, nil, nil, upstream.Explain(err, false)
	}
	if found, sb, err = d.standing(ctx, ref); err != nil {
		leave()
		return nil, nil, nil, err
	}
	return found, sb, leave, nil
}

// PauseSandbox implements sdk.Pauser.
func (d *Driver) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	found, sb, leave, err := d.alone(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	defer leave()
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED, providerv1.SandboxState_SANDBOX_STATE_PAUSING:
		return sb, nil
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING:
	default:
		return nil, upstream.NotRunning(id, sb)
	}
	keep, kept := true, max(sb.GetExpiresAt().AsTime().Sub(d.opts.Now()), shortestKept).Milliseconds()
	if err := c.vendor.UpdateSandbox(ctx, found.Sandbox.Name, api.UpdateRequest{Persistent: &keep, SnapshotExpiration: &kept}); err != nil {
		return nil, upstream.Explain(err, false) // it runs on
	}
	err = c.vendor.StopSession(ctx, found.Session.ID)
	if err != nil && !upstream.Is(err, http.StatusGone, http.StatusUnprocessableEntity) { // it is ending already
		return nil, upstream.Explain(err, true)
	}
	return d.byName(ctx, c, found.Sandbox.Name, id)
}

// ResumeSandbox implements sdk.Pauser.
func (d *Driver) ResumeSandbox(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	found, sb, leave, err := d.alone(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	defer leave()
	name := found.Sandbox.Name
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_RESUMING:
		if found.Sandbox.Persistent { // an earlier call came so far
			d.forgetful(ctx, c, name, id)
		}
		return sb, nil
	case providerv1.SandboxState_SANDBOX_STATE_PAUSED:
	default:
		return nil, upstream.NotRunning(id, sb)
	}
	left := max(sb.GetExpiresAt().AsTime().Sub(d.opts.Now()), time.Second).Milliseconds()
	if err := c.vendor.UpdateSandbox(ctx, name, api.UpdateRequest{Timeout: &left}); err != nil {
		return nil, upstream.Explain(err, false)
	}
	resumed, err := c.vendor.ResumeSandbox(ctx, name)
	if err != nil {
		return nil, upstream.Explain(err, true)
	}
	d.forgetful(ctx, c, name, id)
	r, err := recordOf(&resumed.Sandbox)
	if err != nil || r.ID != id {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "what was resumed is another sandbox").WithEffect(effectUnknown)
	}
	return d.present(resumed, r)
}

// forgetful makes a sandbox leave nothing when it ends. If that fails it leaves a disk,
// which the vendor removes when its time is over.
func (d *Driver) forgetful(ctx context.Context, c *configuration, name, id string) {
	keep := false
	if err := c.vendor.UpdateSandbox(ctx, name, api.UpdateRequest{Persistent: &keep}); err != nil {
		d.opts.Log.Warn("a sandbox that was resumed stays persistent", "sandbox_id", id, "error", err)
	}
}

// inSession calls the vendor about a session. When that is not there any more, and the
// sandbox has been resumed with another, it calls about that one.
func (d *Driver) inSession(ctx context.Context, ref *providerv1.SandboxRef, session *string, call func(session string) error) error {
	err := call(*session)
	if !upstream.Is(err, http.StatusNotFound, http.StatusGone) {
		return err
	}
	d.known.Forget(ref.GetSandboxId())
	_, sb, gone := d.standing(ctx, ref)
	if gone != nil || sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return err
	}
	at, ok := readHandle(sb.GetHandle())
	if !ok || at.Session == *session {
		return err
	}
	*session = at.Session
	return call(*session)
}
