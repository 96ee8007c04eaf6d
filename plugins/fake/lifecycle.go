package fake

import (
	"bytes"
	"context"
	"maps"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// CreateSandbox implements sdk.Driver.
func (d *Driver) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "CreateSandbox", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if made, err := c.made(req.GetOperation()); made != nil || err != nil {
			return made, err
		}
		spec := req.GetSpec()
		if err := checkLimits(spec); err != nil {
			return nil, err
		}
		base, err := c.image(spec.GetImage())
		if err != nil {
			return nil, err
		}
		if err := d.config().checkRegion(spec.GetRegion()); err != nil {
			return nil, err
		}
		if err := c.room(d.config(), req.GetIdentity().GetSandboxId(), 1); err != nil {
			return nil, err
		}
		if base, err = withMountPoints(base, spec.GetMounts()); err != nil {
			return nil, err
		}
		b := c.newBox(req.GetIdentity(), req.GetOperation(), spec, base)
		if b.Overlays, err = c.overlays(b); err != nil {
			return nil, err
		}
		if err := c.add(b); err != nil {
			return nil, err
		}
		return c.proto(b), nil
	})
}

// made returns the sandbox that the operation made before, or nothing. The
// caller holds mu.
func (c *cloud) made(op *providerv1.Operation) (*providerv1.Sandbox, error) {
	ids, err := c.replay(op)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return c.maybe(c.find(ids[0]))
}

// room refuses sandboxes above the quota, and ids that exist.
func (c *cloud) room(s settings, id string, more int) error {
	if s.maxBoxes > 0 && len(c.boxes)+more > s.maxBoxes {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED,
			"%d sandboxes exist; max_sandboxes is %d", len(c.boxes), s.maxBoxes).
			With("sandboxes", strconv.Itoa(len(c.boxes))).With("max", strconv.Itoa(s.maxBoxes))
	}
	if c.boxes[id] != nil {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "sandbox %q exists", id).With("sandbox_id", id)
	}
	return nil
}

func (c *cloud) newBox(id *providerv1.Identity, op *providerv1.Operation, spec *providerv1.SandboxSpec, base *node) *box {
	now := c.now()
	b := &box{
		Identity:  identity{ID: id.GetSandboxId(), Owner: id.GetOwner(), Labels: maps.Clone(id.GetLabels())},
		Operation: operation{Key: op.GetIdempotencyKey(), Digest: bytes.Clone(op.GetRequestDigest())},
		State:     running, CreatedAt: now, Since: now, Base: base,
	}
	b.Spec.M = proto.CloneOf(spec) // the request is its caller's
	if spec.GetLifetime() != nil {
		b.ExpiresAt = now.Add(spec.GetLifetime().AsDuration())
	}
	return b
}

// image returns the files of an image. Any OCI reference exists unless its
// repository ends in "missing"; templates are "base" and "empty".
func (c *cloud) image(image *providerv1.Image) (*node, error) {
	notFound := func(kind, name string) error {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, "%s %q does not exist", kind, name).With("image", name)
	}
	switch src := image.GetSource().(type) {
	case *providerv1.Image_Oci:
		name, _, _ := strings.Cut(src.Oci, "@")
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		if strings.HasSuffix(name, "missing") {
			return nil, notFound("image", src.Oci)
		}
	case *providerv1.Image_Template:
		switch src.Template {
		case "base":
		case "empty":
			return newFolder(c.now()), nil
		default:
			return nil, notFound("template", src.Template)
		}
	}
	return baseTree(), nil
}

// overlays copies the volumes that are mounted with mode OVERLAY, and checks that
// all volumes exist.
func (c *cloud) overlays(b *box) (map[string]*node, error) {
	out := map[string]*node{}
	for i, m := range b.Spec.M.GetMounts() {
		vol := c.volumes[volumeKey{b.Identity.Owner, m.GetVolume()}]
		if vol == nil {
			return nil, noVolume(m.GetVolume()).With(fault.MetaField, "spec.mounts["+strconv.Itoa(i)+"].volume")
		}
		if m.GetMode() == providerv1.MountMode_MOUNT_MODE_OVERLAY {
			out[cleanPath(m.GetTarget())] = vol.Root.clone()
		}
	}
	return out, nil
}

// GetSandbox implements sdk.Driver.
func (d *Driver) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "GetSandbox", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if key := req.GetIdempotencyKey(); key != "" {
			return c.maybe(c.settle(key))
		}
		return c.maybe(c.find(req.GetSandbox().GetSandboxId()))
	})
}

// DeleteSandbox implements sdk.Driver.
func (d *Driver) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	return during(ctx, d, "DeleteSandbox", func(c *cloud) (*providerv1.DeleteSandboxResponse, error) {
		return &providerv1.DeleteSandboxResponse{AlreadyAbsent: !c.remove(req.GetSandbox().GetSandboxId())}, nil
	})
}

// Recover implements sdk.Driver: the vendor's truth is at hand, so that nothing
// is ever unknown.
func (d *Driver) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return during(ctx, d, "Recover", func(c *cloud) (*providerv1.RecoverResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		out := &providerv1.RecoverResponse{}
		for _, ref := range req.GetSandboxes() {
			r := &providerv1.Recovery{SandboxId: ref.GetSandboxId(), Outcome: providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE}
			if b, err := c.find(ref.GetSandboxId()); err == nil {
				r.Outcome, r.Sandbox = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, c.proto(b)
			}
			out.Recoveries = append(out.Recoveries, r)
		}
		return out, nil
	})
}

// PauseSandbox implements sdk.Pauser.
func (d *Driver) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "PauseSandbox", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil || b.State == paused {
			return c.maybe(b, err)
		}
		b.State, b.Kept = paused, keeps{Disk: true, Memory: true, Processes: true}
		b.Active += c.now().Sub(b.Since)
		b.Since = time.Time{}
		for p := range b.live.procs {
			p.freeze(true)
		}
		return c.changed(b)
	})
}

// ResumeSandbox implements sdk.Pauser.
func (d *Driver) ResumeSandbox(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "ResumeSandbox", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil || b.State == running {
			return c.maybe(b, err)
		}
		b.State, b.Kept, b.Reason, b.Since = running, keeps{}, "", c.now()
		for p := range b.live.procs {
			p.freeze(false)
		}
		return c.changed(b)
	})
}

func (c *cloud) maybe(b *box, err error) (*providerv1.Sandbox, error) {
	if err != nil {
		return nil, err
	}
	return c.proto(b), nil
}

// changed stores a sandbox and tells watchers.
func (c *cloud) changed(b *box) (*providerv1.Sandbox, error) {
	if err := c.save(b); err != nil {
		return nil, err
	}
	c.notify(b)
	return c.proto(b), nil
}

// ExtendLifetime implements sdk.LifetimeExtender.
func (d *Driver) ExtendLifetime(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	return during(ctx, d, "ExtendLifetime", func(c *cloud) (*providerv1.Sandbox, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		end := req.GetExpiresAt().AsTime()
		if !end.After(c.now()) || (!b.ExpiresAt.IsZero() && end.Before(b.ExpiresAt)) {
			return nil, fault.Field("expires_at", end.Format(time.RFC3339), "want a time in the future and not before the present end")
		}
		b.ExpiresAt = end
		c.schedule(b)
		return c.changed(b)
	})
}

// GetUsage implements sdk.UsageReader.
func (d *Driver) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.Usage, error) {
	return during(ctx, d, "GetUsage", func(c *cloud) (*providerv1.Usage, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		return c.usage(b), nil
	})
}
