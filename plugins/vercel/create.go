package vercel

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// maxPorts is the vendor's limit.
const maxPorts = 15

// runtimes are what the vendor calls so; every other template is an image.
var runtimes = []string{"node26", "node24", "node22", "python3.13"}

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
	return d.present(made, r)
}

// failedCreate finds out what the vendor's refusal means.
func (d *Driver) failedCreate(ctx context.Context, c *configuration, req *providerv1.CreateSandboxRequest, cause error) (*providerv1.Sandbox, error) {
	key := req.GetOperation().GetIdempotencyKey()
	refused, err := c.ledger.Refusal(key, cause, d.opts.Log)
	if err != nil {
		return nil, err
	}
	// With which status the vendor refuses a name that is taken is not documented.
	if refused.Status == http.StatusConflict || refused.Status == http.StatusBadRequest || refused.Status == http.StatusUnprocessableEntity {
		switch sb, err := d.madeBy(ctx, c, req.GetOperation()); {
		case err == nil:
			return sb, nil
		case !upstream.Is(err, http.StatusNotFound):
			return nil, upstream.Explain(err, false)
		}
	}
	switch refused.Status {
	case http.StatusConflict:
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
			"another request with idempotency key %q is under way at the vendor", key).With("idempotency_key", key).WithEffect(effectUnknown)
	case http.StatusGone:
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q was deleted while it was being made", req.GetIdentity().GetSandboxId()).
			With("sandbox_id", req.GetIdentity().GetSandboxId())
	case http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "the vendor cannot make this sandbox: %s", refused.Message).
			With("status", strconv.Itoa(refused.Status)).With("code", refused.Code).With("message", refused.Message)
	}
	return nil, upstream.Explain(cause, false)
}

// madeBy returns the sandbox that a key has made, if it was made by the same
// request.
func (d *Driver) madeBy(ctx context.Context, c *configuration, op *providerv1.Operation) (*providerv1.Sandbox, error) {
	found, err := c.vendor.Sandbox(ctx, nameOf(op.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	r, err := recordOf(&found.Sandbox)
	if err != nil || !bytes.Equal(r.Digest, op.GetRequestDigest()) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"idempotency key %q made something else", op.GetIdempotencyKey()).With("idempotency_key", op.GetIdempotencyKey())
	}
	return d.present(found, r)
}

// request puts a spec into the vendor's words, or refuses it.
func (s settings) request(req *providerv1.CreateSandboxRequest) (api.CreateRequest, record, error) {
	spec, op := req.GetSpec(), req.GetOperation()
	r := record{
		ID: req.GetIdentity().GetSandboxId(), Key: op.GetIdempotencyKey(), Owner: req.GetIdentity().GetOwner(),
		Digest: op.GetRequestDigest(), Labels: req.GetIdentity().GetLabels(), Workdir: spec.GetWorkdir(),
	}
	out := api.CreateRequest{
		Name: nameOf(r.Key), Timeout: s.lifetime.Milliseconds(), Env: spec.GetEnv(), Region: spec.GetRegion(), Ports: spec.GetPorts(),
		NetworkPolicy: &api.Policy{Mode: api.DenyAll}, // the only mode that is declared
	}
	if n := len(spec.GetPorts()); n > maxPorts {
		return out, r, fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "spec.ports has %d: the vendor has %d at most", n, maxPorts).
			With("limit", "max_ports").With("max", strconv.Itoa(maxPorts)).With(fault.MetaField, "spec.ports")
	}
	if spec.GetUser() != "" {
		return out, r, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"spec.user is %q: the vendor runs commands as the image's user; leave it out", spec.GetUser()).
			With(fault.MetaField, "spec.user").With("value", spec.GetUser())
	}
	if l := spec.GetLifetime(); l != nil {
		if l.AsDuration() < time.Second {
			return out, r, fault.Field("spec.lifetime", l.AsDuration().String(), "want 1s or more")
		}
		out.Timeout = l.AsDuration().Milliseconds()
	}
	if image := cmp.Or(spec.GetImage().GetTemplate(), s.image); slices.Contains(runtimes, image) {
		out.Runtime = image
	} else {
		out.Image = image
	}
	if millis := spec.GetResources().GetCpuMillis(); millis > 0 {
		cpus, err := virtualCPUs(millis)
		if err != nil {
			return out, r, err
		}
		out.Resources = &api.Resources{VCPUs: cpus}
	}
	var err error
	out.Tags, err = r.tags()
	return out, r, err
}

// virtualCPUs: the vendor sells one, or an even number.
func virtualCPUs(millis int64) (int64, error) {
	const whole = 1000
	n := millis / whole
	if millis%whole == 0 && (n == 1 || n%2 == 0) {
		return n, nil
	}
	return 0, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
		"spec.resources.cpu_millis is %d: the vendor has 1000, or a multiple of 2000", millis).
		With(fault.MetaField, "spec.resources.cpu_millis").With("value", strconv.FormatInt(millis, 10))
}
