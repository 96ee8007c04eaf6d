package daytona

import (
	"context"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// maxPage is the vendor's limit.
	maxPage = 200
	// firstLook and lastLook are how often the vendor is asked whether it is done.
	firstLook, lastLook = 100 * time.Millisecond, 2 * time.Second
)

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
	found, err := c.vendor.Sandbox(ctx, at.ID)
	if upstream.Is(err, http.StatusNotFound) {
		d.known.Forget(id)
		return nil, upstream.NotFound(id)
	}
	if err != nil {
		return nil, upstream.Explain(err, false)
	}
	r, err := recordOf(found)
	if err != nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "%w", err).WithEffect(effectNone)
	}
	if r.ID != id {
		return nil, upstream.NotFound(id)
	}
	return d.present(found, r)
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
	r, err := recordOf(found)
	if err != nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "%w", err).WithEffect(effectNone)
	}
	return d.present(found, r)
}

// locate says where a sandbox is: as its handle does, or this process's memory, or
// the vendor, asked for the sandbox's id. The vendor's search may not know yet what
// was made a moment ago.
func (d *Driver) locate(ctx context.Context, c *configuration, ref *providerv1.SandboxRef) (handle, error) {
	id := ref.GetSandboxId()
	h, ok := readHandle(ref.GetHandle())
	if !ok {
		h, ok = d.known.Find(id)
	}
	if ok {
		return h, nil
	}
	page, err := c.vendor.Sandboxes(ctx, api.ListQuery{Limit: 1, Labels: map[string]string{labelID: id}})
	if err != nil {
		return handle{}, upstream.Explain(err, false)
	}
	for i := range page.Items {
		sb := &page.Items[i]
		if r, err := recordOf(sb); err == nil && r.ID == id {
			if _, err := d.present(sb, r); err != nil {
				return handle{}, err
			}
			return handle{ID: sb.ID, Proxy: sb.ToolboxProxyURL, Workdir: r.Workdir}, nil
		}
	}
	return handle{}, upstream.NotFound(id)
}

// ListSandboxes implements sdk.Driver.
func (d *Driver) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	page, err := d.config().vendor.Sandboxes(ctx, api.ListQuery{
		Limit: min(int(req.GetPageSize()), maxPage), Cursor: req.GetPageToken(), Labels: map[string]string{labelOwner: upstream.OwnerDigest(req.GetOwner())},
	})
	if upstream.Is(err, http.StatusBadRequest) && req.GetPageToken() != "" {
		return nil, fault.Field("page_token", req.GetPageToken(), "want the token of the page before")
	}
	if err != nil {
		return nil, upstream.Explain(err, false)
	}
	out := &providerv1.ListSandboxesResponse{NextPageToken: page.NextCursor}
	for i := range page.Items {
		sb := &page.Items[i]
		r, err := recordOf(sb)
		if err != nil || r.Owner != req.GetOwner() {
			continue // what is not ours is not listed
		}
		shown, err := d.present(sb, r)
		if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.Sandboxes = append(out.Sandboxes, shown)
	}
	return out, nil
}

// DeleteSandbox implements sdk.Driver. The vendor does not begin while it is at
// something else with the sandbox, and answers before it is done: both is waited for.
func (d *Driver) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	c, id := d.config(), req.GetSandbox().GetSandboxId()
	at, err := d.locate(ctx, c, req.GetSandbox())
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return &providerv1.DeleteSandboxResponse{AlreadyAbsent: true}, nil
	}
	if err != nil {
		return nil, err
	}
	asked := false
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		absent, err := d.destroy(ctx, c, at.ID, &asked)
		if err != nil {
			return nil, upstream.Explain(err, true)
		}
		if absent {
			d.known.Forget(id)
			return &providerv1.DeleteSandboxResponse{AlreadyAbsent: !asked}, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, upstream.Explain(&upstream.LostError{Sent: true, Err: ctx.Err()}, true)
		}
	}
}

// destroy asks for the end of a sandbox, unless it was asked for already, and reports
// whether there is none any more.
func (d *Driver) destroy(ctx context.Context, c *configuration, vendorID string, asked *bool) (bool, error) {
	if !*asked {
		err := c.vendor.DeleteSandbox(ctx, vendorID)
		switch {
		case upstream.Is(err, http.StatusNotFound):
			return true, nil
		case upstream.Is(err, http.StatusConflict): // a change of its state is in progress, which may be this one
		case err != nil:
			return false, err
		default:
			*asked = true
		}
	}
	found, err := c.vendor.Sandbox(ctx, vendorID)
	if upstream.Is(err, http.StatusNotFound) {
		return true, nil
	}
	return err == nil && found.State == api.Destroyed, err
}

// Recover implements sdk.Driver.
func (d *Driver) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return upstream.Recover(req.GetSandboxes(), func(by *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) { return d.GetSandbox(ctx, by) }), nil
}
