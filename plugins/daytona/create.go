package daytona

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// CreateSandbox implements sdk.Driver. One request for a key is under way from here
// at a time; what others send is the vendor's to refuse, by the name.
func (d *Driver) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	c, key := d.config(), req.GetOperation().GetIdempotencyKey()
	ask, r, err := c.settings.request(req)
	if err != nil {
		return nil, err
	}
	leave, err := d.keys.Enter(ctx, key)
	if err != nil {
		return nil, upstream.Explain(err, true)
	}
	defer leave()
	if err := c.ledger.Begin(key); err != nil {
		return nil, err
	}
	made, err := c.vendor.CreateSandbox(ctx, ask)
	if err != nil {
		return d.failedCreate(ctx, c, req, err)
	}
	c.ledger.Settle(key, d.opts.Log)
	if made.State != api.Started { // the vendor may have waited, and answered what was before
		if now, err := c.vendor.Sandbox(ctx, made.ID); err == nil {
			made = now
		}
	}
	return d.present(made, r)
}

// failedCreate finds out what the vendor's refusal means.
func (d *Driver) failedCreate(ctx context.Context, c *configuration, req *providerv1.CreateSandboxRequest, cause error) (*providerv1.Sandbox, error) {
	key := req.GetOperation().GetIdempotencyKey()
	refused, err := c.ledger.Refusal(key, cause, d.opts.Log)
	if err != nil {
		return nil, err
	}
	switch refused.Status {
	case http.StatusConflict: // the name is taken
		sb, err := d.madeBy(ctx, c, req.GetOperation())
		if !upstream.Is(err, http.StatusNotFound) {
			return sb, upstream.Explain(err, false)
		}
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
			"another request with idempotency key %q is under way at the vendor", key).With("idempotency_key", key).WithEffect(effectUnknown)
	case http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		return nil, d.refusedSpec(ctx, c, req, refused)
	}
	return nil, upstream.Explain(cause, false)
}

// refusedSpec is for a request that the vendor does not like. It refuses like that,
// too, what it made and could not start: that is taken back.
func (d *Driver) refusedSpec(ctx context.Context, c *configuration, req *providerv1.CreateSandboxRequest, refused *upstream.Error) error {
	say := func(reason providerv1.ErrorReason, format string) *fault.Error {
		return fault.New(reason, format, refused.Message).
			With("status", strconv.Itoa(refused.Status)).With("code", refused.Code).With("message", refused.Message)
	}
	sb, err := d.madeBy(ctx, c, req.GetOperation())
	switch {
	case err == nil:
		ref := &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId(), Handle: sb.GetHandle()}
		effect := effectNone
		if _, err := d.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: ref}); err != nil {
			effect = effectUnknown
		}
		return say(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the vendor made the sandbox and could not start it: %s").WithEffect(effect)
	case !upstream.Is(err, http.StatusNotFound):
		return upstream.Explain(err, true)
	case strings.Contains(refused.Message, "limit exceeded"): // Total CPU limit exceeded, and the like
		return say(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "the vendor's limit for the organization is reached: %s")
	}
	return say(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "the vendor cannot make this sandbox: %s")
}

// madeBy returns the sandbox that a key has made, if it was made by the same
// request.
func (d *Driver) madeBy(ctx context.Context, c *configuration, op *providerv1.Operation) (*providerv1.Sandbox, error) {
	found, err := c.vendor.Sandbox(ctx, nameOf(op.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	r, err := recordOf(found)
	if err != nil || !bytes.Equal(r.Digest, op.GetRequestDigest()) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"idempotency key %q made something else", op.GetIdempotencyKey()).With("idempotency_key", op.GetIdempotencyKey())
	}
	return d.present(found, r)
}

// request puts a spec into the vendor's words, or refuses it. Nothing ends a sandbox
// because it is idle, and one that was stopped does not stay.
func (s settings) request(req *providerv1.CreateSandboxRequest) (api.CreateRequest, record, error) {
	spec, op := req.GetSpec(), req.GetOperation()
	r := record{
		ID: req.GetIdentity().GetSandboxId(), Key: op.GetIdempotencyKey(), Owner: req.GetIdentity().GetOwner(),
		Digest: op.GetRequestDigest(), Labels: req.GetIdentity().GetLabels(), Workdir: spec.GetWorkdir(),
	}
	out := api.CreateRequest{
		Name: nameOf(r.Key), Snapshot: cmp.Or(spec.GetImage().GetTemplate(), s.snapshot), Env: spec.GetEnv(), Labels: r.labels(),
		Target: cmp.Or(spec.GetRegion(), s.target), NetworkBlockAll: true, TTLMinutes: int64(s.ttl / time.Minute),
	}
	if spec.GetUser() != "" {
		return out, r, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"spec.user is %q: the vendor runs commands as the snapshot's user; leave it out", spec.GetUser()).
			With(fault.MetaField, "spec.user").With("value", spec.GetUser())
	}
	return out, r, nil
}
