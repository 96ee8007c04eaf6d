package vercel

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// maxPage is how many sandboxes are asked for at once. The vendor's own limit is
// not documented; a hundred is what its other listings allow.
const maxPage = 100

// GetSandbox implements sdk.Driver.
func (d *Driver) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	if key := req.GetIdempotencyKey(); key != "" {
		return d.byKey(ctx, key)
	}
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	at, err := d.locate(ctx, c, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return d.byName(ctx, c, at.Name, id)
}

// byName asks for a sandbox that is thought to be there.
func (d *Driver) byName(ctx context.Context, c *configuration, name, id string) (*providerv1.Sandbox, error) {
	_, sb, err := d.look(ctx, c, name, id)
	return sb, err
}

// look is byName, with what the vendor said.
func (d *Driver) look(ctx context.Context, c *configuration, name, id string) (*api.SandboxAnswer, *providerv1.Sandbox, error) {
	found, err := c.vendor.Sandbox(ctx, name)
	if upstream.Is(err, http.StatusNotFound) {
		d.known.Forget(id)
		return nil, nil, upstream.NotFound(id)
	}
	if err != nil {
		return nil, nil, upstream.Explain(err, false)
	}
	r, err := recordOf(&found.Sandbox)
	if err != nil {
		return nil, nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "%w", err).WithEffect(effectNone)
	}
	if r.ID != id {
		return nil, nil, upstream.NotFound(id)
	}
	sb, err := d.present(found, r)
	return found, sb, err
}

// byKey settles what a key has made.
func (d *Driver) byKey(ctx context.Context, key string) (*providerv1.Sandbox, error) {
	c := d.config()
	left := c.ledger.Wait(key) // before the vendor is asked: what ends meanwhile is seen
	found, err := c.vendor.Sandbox(ctx, nameOf(key))
	if upstream.Is(err, http.StatusNotFound) {
		return nil, upstream.MadeNothing(key, left)
	}
	if err != nil {
		return nil, upstream.Explain(err, false)
	}
	c.ledger.Settle(key, d.opts.Log)
	r, err := recordOf(&found.Sandbox)
	if err != nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "%w", err).WithEffect(effectNone)
	}
	return d.present(found, r)
}

// locate says where a sandbox is: as this process remembers, or its handle says, or
// the vendor, asked for the sandbox's id.
func (d *Driver) locate(ctx context.Context, c *configuration, ref *providerv1.SandboxRef) (handle, error) {
	id := ref.GetSandboxId()
	h, ok := d.known.Find(id)
	if !ok { // one that was resumed has another session than an old handle says
		h, ok = readHandle(ref.GetHandle())
	}
	if ok {
		return h, nil
	}
	page, err := c.vendor.Sandboxes(ctx, api.ListQuery{Limit: 1, TagKey: tagID, TagValue: id})
	if err != nil {
		return handle{}, upstream.Explain(err, false)
	}
	for i := range page.Sandboxes {
		sb := &page.Sandboxes[i]
		if r, err := recordOf(sb); err == nil && r.ID == id {
			h = handle{Name: sb.Name, Session: sb.CurrentSessionID, Workdir: r.Workdir}
			d.known.Remember(id, h)
			return h, nil
		}
	}
	return handle{}, upstream.NotFound(id)
}

// ListSandboxes implements sdk.Driver. The vendor's listing has no sessions, and so
// does not say when a lifetime ends: expires_at is absent here. Of a sandbox that has
// stopped the session is asked for, because it says whether its time was up.
func (d *Driver) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	c := d.config()
	page, err := c.vendor.Sandboxes(ctx, api.ListQuery{
		Limit: min(int(req.GetPageSize()), maxPage), Cursor: req.GetPageToken(), TagKey: tagOwner, TagValue: upstream.OwnerDigest(req.GetOwner()),
	})
	if upstream.Is(err, http.StatusBadRequest) && req.GetPageToken() != "" {
		return nil, fault.Field("page_token", req.GetPageToken(), "want the token of the page before")
	}
	if err != nil {
		return nil, upstream.Explain(err, false)
	}
	found := make([]*providerv1.Sandbox, len(page.Sandboxes))
	err = upstream.Each(len(page.Sandboxes), func(i int) error {
		sb := &page.Sandboxes[i]
		r, err := recordOf(sb)
		if err != nil || r.Owner != req.GetOwner() {
			return nil //nolint:nilerr // what is not ours is not listed
		}
		if sb.Status == api.Running || sb.Status == api.Pending {
			found[i], err = d.present(&api.SandboxAnswer{Sandbox: *sb, Session: api.Session{
				ID: sb.CurrentSessionID, Status: sb.Status, Region: sb.Region, VCPUs: sb.VCPUs, Memory: sb.Memory, CreatedAt: sb.CreatedAt,
			}}, r)
			return err
		}
		found[i], err = d.byName(ctx, c, sb.Name, r.ID)
		if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			return nil // it has gone meanwhile, or its lifetime was over
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &providerv1.ListSandboxesResponse{NextPageToken: page.Pagination.Next}
	for _, sb := range found {
		if sb != nil {
			out.Sandboxes = append(out.Sandboxes, sb)
		}
	}
	return out, nil
}

// DeleteSandbox implements sdk.Driver. The vendor stops what runs, and removes the
// record with it.
func (d *Driver) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	at, err := d.locate(ctx, c, req.GetSandbox())
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return &providerv1.DeleteSandboxResponse{AlreadyAbsent: true}, nil
	}
	if err != nil {
		return nil, err
	}
	err = c.vendor.DeleteSandbox(ctx, at.Name)
	if err != nil && !upstream.Is(err, http.StatusNotFound) {
		return nil, upstream.Explain(err, true)
	}
	d.known.Forget(id)
	return &providerv1.DeleteSandboxResponse{AlreadyAbsent: err != nil}, nil
}

// Recover implements sdk.Driver.
func (d *Driver) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return upstream.Recover(req.GetSandboxes(), func(by *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) { return d.GetSandbox(ctx, by) }), nil
}

// ExtendLifetime implements sdk.LifetimeExtender. The vendor adds to the end, so
// that where it is now is asked for first; when the answer is lost, asking again
// adds only what is missing.
func (d *Driver) ExtendLifetime(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	found, sb, leave, err := d.alone(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	defer leave()
	if sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil, upstream.NotRunning(id, sb)
	}
	end, want := sb.GetExpiresAt().AsTime(), req.GetExpiresAt().AsTime()
	more := want.Sub(end).Round(time.Millisecond)
	switch {
	case more < 0:
		return nil, fault.Field("expires_at", want.Format(time.RFC3339), "want a time after the present end, "+end.Format(time.RFC3339))
	case more == 0:
		return sb, nil
	case more < time.Second:
		more = time.Second // the least that the vendor adds
	}
	_, err = c.vendor.ExtendTimeout(ctx, found.Session.ID, more)
	if upstream.Is(err, http.StatusBadRequest, http.StatusUnprocessableEntity) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "the vendor does not extend it: %w", err).
			With("sandbox_id", id).With("milliseconds", strconv.FormatInt(more.Milliseconds(), 10))
	}
	if err != nil {
		return nil, d.explainSession(ctx, req.GetSandbox(), err, true)
	}
	return d.byName(ctx, c, found.Sandbox.Name, id)
}

// explainSession is explain for a call about a session, of which the vendor may
// have said that it is not there or has ended. What that means is what the vendor
// says of the sandbox.
func (d *Driver) explainSession(ctx context.Context, ref *providerv1.SandboxRef, cause error, changes bool) error {
	if !upstream.Is(cause, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity) {
		return upstream.Explain(cause, changes)
	}
	d.known.Forget(ref.GetSandboxId())
	return upstream.ExplainAbout(ref, cause, changes, func(by *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) { return d.GetSandbox(ctx, by) })
}
