package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// CreateSandbox implements sdk.Driver.
func (d *Driver) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	store, conf, err := d.open()
	if err != nil {
		return nil, err
	}
	spec, err := d.complete(store, conf, req)
	if err != nil {
		return nil, err
	}
	if err := pin(ctx, conf, spec); err != nil {
		return nil, err
	}
	return d.make(ctx, makeRequest{
		store: store, conf: conf, operation: req.GetOperation(), identity: req.GetIdentity(), spec: spec, boot: &shim.Boot{},
	})
}

// leastMemory holds a shell and what it starts; in a quarter of it, sandboxes
// died of memory within a second.
const leastMemory = 8 << 20

// complete checks what can be known before anything is made, and fills in
// defaults.
func (d *Driver) complete(store *record.Store, conf config, req *providerv1.CreateSandboxRequest) (*providerv1.SandboxSpec, error) {
	spec, _ := proto.Clone(req.GetSpec()).(*providerv1.SandboxSpec)
	if spec == nil {
		spec = &providerv1.SandboxSpec{}
	}
	spec.Resources = conf.settings.withDefaults(spec.GetResources())
	if cpu := spec.GetResources().GetCpuMillis(); cpu%1000 != 0 {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"spec.resources.cpu_millis is %d: this provider limits whole processors, want a multiple of 1000", cpu).
			With(fault.MetaField, "spec.resources.cpu_millis")
	}
	if memory := spec.GetResources().GetMemoryBytes(); memory < leastMemory {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"spec.resources.memory_bytes is %d: want at least %d, or no command fits in", memory, leastMemory).
			With(fault.MetaField, "spec.resources.memory_bytes")
	}
	for i, m := range spec.GetMounts() {
		if err := checkMount(store, req.GetIdentity().GetOwner(), m, i); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// makeRequest is a sandbox to be made, from nothing or from a checkpoint.
type makeRequest struct {
	store     *record.Store
	conf      config
	operation *providerv1.Operation
	identity  *providerv1.Identity
	spec      *providerv1.SandboxSpec
	boot      *shim.Boot
}

// make spends the key and makes the sandbox, or returns the one that the key was
// spent on.
func (d *Driver) make(ctx context.Context, m makeRequest) (*providerv1.Sandbox, error) {
	// The key's own lock makes spending it and making the sandbox one step, as
	// seen by whoever settles the key.
	settled, err := d.locks.lock(ctx, keyLock(m.operation.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	defer settled()
	key, fresh, err := m.store.Spend(m.operation, []string{m.identity.GetSandboxId()})
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "spend idempotency key: %w", err)
	}
	id := key.IDs[0]
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !fresh {
		if sb, err := d.refresh(m.store, id); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			return sb, err
		}
		// The attempt that spent the key came to nothing: this one carries it out.
	}
	if _, err := m.store.Sandbox(id); err == nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "sandbox %q exists", id).With("sandbox_id", id)
	}
	if sb, ok := d.adopt(ctx, m); ok {
		return sb, nil
	}
	sb, err := d.spawn(ctx, m)
	if err != nil {
		// Nothing is left of it, so the caller may use the key again.
		return nil, errors.Join(err, m.store.Forget(m.operation.GetIdempotencyKey()))
	}
	return sb, nil
}

// keyLock names the lock of an idempotency key. It is taken before the locks of
// sandboxes.
func keyLock(key string) string { return "key/" + key }

// spawn writes the record and starts the shim. On failure nothing remains. The
// caller holds the sandbox's lock.
func (d *Driver) spawn(ctx context.Context, m makeRequest) (_ *providerv1.Sandbox, err error) {
	id := m.identity.GetSandboxId()
	if err := m.store.PutSandbox(m.record()); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "write record: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.store.RemoveSandbox(id))
			d.release(ctx, id)
		}
	}()
	if err := lease(ctx, m.conf, m.spec, id); err != nil {
		return nil, err
	}
	if m.boot.Root, err = rootOf(ctx, m.conf, m.spec); err != nil {
		return nil, err
	}
	m.boot.VolumeData = volumeData(m.store, m.identity.GetOwner(), m.spec)
	if err := d.boot(ctx, m.store, m.conf, id, m.boot); err != nil {
		return nil, err
	}
	rec, err := m.store.Sandbox(id)
	if errors.Is(err, fs.ErrNotExist) && m.spec.GetLifetime() != nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_EXPIRED, "the sandbox's lifetime of %s ended before it ran", m.spec.GetLifetime().AsDuration()).
			With("sandbox_id", id).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_UNKNOWN, "read record: %w", err)
	}
	return rec.Sandbox, nil
}

// record is the first record of the sandbox, whose life begins now.
func (m *makeRequest) record() *record.Sandbox {
	now := time.Now()
	sb := &providerv1.Sandbox{
		Identity: m.identity, Operation: m.operation, VendorId: m.identity.GetSandboxId(),
		Handle: &providerv1.Handle{Version: 1}, State: providerv1.SandboxState_SANDBOX_STATE_CREATING,
		CreatedAt: timestamppb.New(now), Resources: m.spec.GetResources(),
		EgressStrength: providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED, ImageDigest: pinned(m.spec),
	}
	if life := m.spec.GetLifetime(); life != nil {
		sb.ExpiresAt = timestamppb.New(now.Add(life.AsDuration()))
	}
	return &record.Sandbox{Sandbox: sb, Spec: m.spec}
}

// boot starts a shim in a sandbox's folder and waits until it serves.
func (d *Driver) boot(ctx context.Context, store *record.Store, conf config, id string, boot *shim.Boot) error {
	dir := store.SandboxDir(id)
	lock, held, err := shim.Lock(dir)
	if err != nil {
		return internal(providerv1.Effect_EFFECT_NONE, "lock sandbox: %w", err)
	}
	if held {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS, "sandbox %q is in use by its process", id).
			With("sandbox_id", id).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	boot.RetainBytes, boot.Agent = conf.settings.retain, conf.agent
	defer d.busy()()
	wait, err := shim.Spawn(ctx, d.opts.Binary, dir, lock, boot)
	if err != nil {
		return internal(providerv1.Effect_EFFECT_NONE, "start sandbox: %w", err)
	}
	d.waits.Go(func() {
		wait()
		d.reap(id)
	})
	return nil
}

// volumeData maps the volumes that a spec mounts to their folders.
func volumeData(store *record.Store, owner string, spec *providerv1.SandboxSpec) map[string]string {
	out := map[string]string{}
	for _, m := range spec.GetMounts() {
		if m.GetVolume() != "" {
			out[m.GetVolume()] = store.VolumeData(owner, m.GetVolume())
		}
	}
	return out
}

func checkMount(store *record.Store, owner string, m *providerv1.Mount, i int) error {
	field := "spec.mounts[" + strconv.Itoa(i) + "]"
	if m.GetVolume() != "" {
		if _, err := store.Volume(owner, m.GetVolume()); errors.Is(err, fs.ErrNotExist) {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND, "volume %q does not exist", m.GetVolume()).
				With("volume", m.GetVolume())
		} else if err != nil {
			return internal(providerv1.Effect_EFFECT_NONE, "look up volume: %w", err)
		}
		return nil
	}
	if !filepath.IsAbs(m.GetHostPath()) {
		return fault.Field(field+".host_path", m.GetHostPath(), "want an absolute path")
	}
	if _, err := os.Stat(m.GetHostPath()); err != nil {
		return fault.Field(field+".host_path", m.GetHostPath(), "want a file or folder that exists and can be read")
	}
	return nil
}
