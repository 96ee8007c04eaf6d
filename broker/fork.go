package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ForkSandbox makes copies of a running sandbox: all, or none. Copies take over
// labels, end of life and idle policy; labels of the request win.
func (s *Service) ForkSandbox(ctx context.Context, req *brokerv1.ForkSandboxRequest) ([]*brokerv1.Sandbox, error) {
	if n := req.GetCount(); n < 1 || n > maxCopies {
		return nil, fault.Field("count", strconv.Itoa(int(n)), fmt.Sprintf("want 1 to %d", maxCopies))
	}
	if err := firstError(validateLabels(req.GetLabels()), validateKey(req.GetIdempotencyKey())); err != nil {
		return nil, err
	}
	if err := s.labelsOfScope(ctx, &req.Labels); err != nil {
		return nil, err
	}
	rows, err := s.once(ctx, req.GetIdempotencyKey(), req, func(r *state.Request) ([]*state.Sandbox, error) {
		var rows []*state.Sandbox
		var raced error
		_, err := s.operate(ctx, req.GetSandbox(), func(opCtx context.Context, parent *state.Sandbox) error {
			if err := s.usable(opCtx, parent); err != nil {
				return err
			}
			var err error
			rows, err = s.makeSandboxes(ctx, r, s.planFork(parent, req))
			if errors.Is(err, state.ErrKeyTaken) {
				raced = err
				return nil
			}
			return err
		})
		return rows, errors.Join(err, raced)
	})
	if err != nil {
		return nil, err
	}
	return views(rows), nil
}

func views(rows []*state.Sandbox) []*brokerv1.Sandbox {
	out := make([]*brokerv1.Sandbox, len(rows))
	for i, sb := range rows {
		out[i] = sb.View()
	}
	return out
}

func (s *Service) planFork(parent *state.Sandbox, req *brokerv1.ForkSandboxRequest) making {
	m := making{provider: parent.Body.GetProvider(), by: telemetry.Fork}
	for range req.GetCount() {
		sb := s.newRow(parent.Tenant(), m.provider, 0, parent.Body.GetIdle())
		sb.Body.Spec, sb.Body.ExpiresAt = proto.CloneOf(parent.Body.GetSpec()), proto.CloneOf(parent.Body.GetExpiresAt())
		sb.Body.ParentId, sb.Body.Labels = parent.ID(), maps.Clone(parent.Body.GetLabels())
		if sb.Body.Labels == nil {
			sb.Body.Labels = make(map[string]string, len(req.GetLabels()))
		}
		maps.Copy(sb.Body.Labels, req.GetLabels())
		m.rows = append(m.rows, sb)
	}
	fork := &providerv1.ForkSandboxRequest{Sandbox: parent.Ref(), Minimum: orDisk(req.GetMinimum())}
	for _, sb := range m.rows {
		fork.Identities = append(fork.Identities, s.identity(sb))
	}
	fork.Operation = operation(fork)
	m.op = fork.GetOperation()
	m.call = func(ctx context.Context, p *provider.Provider) ([]*providerv1.Sandbox, error) {
		resp, err := p.ForkSandbox(ctx, fork)
		return resp.GetSandboxes(), err
	}
	return m
}

// RestoreSnapshot makes a new sandbox from a snapshot.
func (s *Service) RestoreSnapshot(ctx context.Context, req *brokerv1.RestoreSnapshotRequest) (*brokerv1.Sandbox, error) {
	err := firstError(validateName(req.GetName()), validateLabels(req.GetLabels()), validateLifetime("lifetime", req.GetLifetime()),
		validateIdle(req.GetIdle()), validateKey(req.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	if err := s.labelsOfScope(ctx, &req.Labels); err != nil {
		return nil, err
	}
	return s.makeOne(ctx, req.GetIdempotencyKey(), req, func() (making, error) { return s.planRestore(ctx, req) })
}

func (s *Service) planRestore(ctx context.Context, req *brokerv1.RestoreSnapshotRequest) (making, error) {
	sn, err := s.findSnapshot(ctx, req.GetSnapshot())
	if err == nil && sn.Deleting {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q is being deleted", req.GetSnapshot()).
			With("snapshot_id", sn.ID()).With("state", "DELETING")
	}
	if err != nil {
		return making{}, err
	}
	m := making{provider: sn.Body.GetProvider(), by: telemetry.Restore}
	native, err := s.endsByItself(ctx, m.provider)
	if err != nil {
		return making{}, err
	}
	spec := proto.CloneOf(sn.Spec)
	if spec == nil {
		spec = &providerv1.SandboxSpec{}
	}
	lifetime := s.lifetime(req.GetLifetime(), spec.GetLifetime())
	spec.Lifetime = nil
	if lifetime > 0 && native {
		spec.Lifetime = durationpb.New(lifetime)
	}
	sb := s.newRow(sn.Tenant(), m.provider, lifetime, req.GetIdle())
	sb.Body.Name, sb.Body.Labels, sb.Body.Spec, sb.Body.ParentId = req.GetName(), req.GetLabels(), spec, sn.ID()
	m.rows = []*state.Sandbox{sb}
	restore := &providerv1.RestoreSnapshotRequest{
		Identity: s.identity(sb), SnapshotId: sn.ID(), Handle: sn.Handle,
		Minimum: orDisk(req.GetMinimum()), Lifetime: spec.GetLifetime(),
	}
	restore.Operation = operation(restore)
	m.op = restore.GetOperation()
	m.call = func(ctx context.Context, p *provider.Provider) ([]*providerv1.Sandbox, error) {
		resp, err := p.RestoreSnapshot(ctx, restore)
		return []*providerv1.Sandbox{resp.GetSandbox()}, err
	}
	return m, nil
}

// CreateSnapshot takes a snapshot of a running or paused sandbox.
func (s *Service) CreateSnapshot(ctx context.Context, req *brokerv1.CreateSnapshotRequest) (*brokerv1.Snapshot, error) {
	if err := firstError(validateName(req.GetName()), validateLabels(req.GetLabels()), validateKey(req.GetIdempotencyKey())); err != nil {
		return nil, err
	}
	if err := s.labelsOfScope(ctx, &req.Labels); err != nil {
		return nil, err
	}
	var sn *state.Snapshot
	_, err := s.operate(ctx, req.GetSandbox(), func(ctx context.Context, sb *state.Sandbox) error {
		if err := s.sure(ctx, sb); err != nil {
			return err
		}
		if sb.Status.State != providerv1.SandboxState_SANDBOX_STATE_PAUSED {
			if err := s.usable(ctx, sb); err != nil {
				return err
			}
		}
		var err error
		sn, err = s.snapshotOnce(ctx, sb, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sn.View(), nil
}

// snapshotOnce needs the sandbox's lock, which also orders calls with one key.
func (s *Service) snapshotOnce(ctx context.Context, sb *state.Sandbox, req *brokerv1.CreateSnapshotRequest) (*state.Snapshot, error) {
	sn := &state.Snapshot{Spec: sb.Body.GetSpec(), RequestKey: req.GetIdempotencyKey(), Body: &brokerv1.Snapshot{
		SnapshotId: newSnapshotID(), Tenant: sb.Tenant(), Name: req.GetName(), Provider: sb.Body.GetProvider(), SandboxId: sb.ID(),
		CreatedAt: timestamppb.Now(), Labels: req.GetLabels(),
	}}
	call := &providerv1.CreateSnapshotRequest{Sandbox: sb.Ref(), SnapshotId: sn.ID(), Minimum: orDisk(req.GetMinimum()), Labels: req.GetLabels()}
	var r *state.Request
	if req.GetIdempotencyKey() != "" {
		sum := provider.Digest(req)
		earlier, err := s.earlierSnapshot(ctx, sb.Tenant(), req.GetIdempotencyKey(), sum)
		if err != nil || earlier != nil && earlier.Ready {
			return earlier, err
		}
		if earlier != nil {
			// The same call once more gets what the first one made, or makes it.
			call.SnapshotId, call.Operation = earlier.ID(), earlier.Operation
			return earlier, s.takeSnapshot(ctx, earlier, call)
		}
		r = &state.Request{Tenant: sb.Tenant(), Key: req.GetIdempotencyKey(), Digest: sum, IDs: []string{sn.ID()}, At: time.Now()}
	}
	sn.Operation = operation(call)
	call.Operation = sn.Operation
	err := s.store.InsertSnapshot(ctx, r, sn)
	if errors.Is(err, state.ErrNameTaken) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS,
			"name is %q: a snapshot of the tenant has it; choose another or delete that one", req.GetName()).With("name", req.GetName())
	}
	if errors.Is(err, state.ErrNoTenant) {
		return nil, noTenant(sb.Tenant())
	}
	if err != nil {
		return nil, state.Fault(err)
	}
	return sn, s.takeSnapshot(ctx, sn, call)
}

func (s *Service) earlierSnapshot(ctx context.Context, tenant, key string, sum []byte) (*state.Snapshot, error) {
	r, err := s.earlier(ctx, tenant, key, sum)
	if err != nil || r == nil || len(r.IDs) == 0 {
		return nil, err
	}
	sn, err := s.store.Snapshot(ctx, r.IDs[0])
	if err != nil {
		return nil, snapshotNotFound(r.IDs[0], err)
	}
	if who, err := s.caller(ctx); err != nil || !seesSnapshot(who, sn) {
		return nil, errors.Join(err, keyReused(key))
	}
	return sn, nil
}

// takeSnapshot calls the provider for a stored snapshot. One that was refused is
// removed, one whose outcome is unknown stays hidden until it is settled.
func (s *Service) takeSnapshot(ctx context.Context, sn *state.Snapshot, call *providerv1.CreateSnapshotRequest) error {
	p, err := s.provider(sn.Body.GetProvider())
	var resp *providerv1.CreateSnapshotResponse
	began := time.Now()
	if err == nil {
		resp, err = p.CreateSnapshot(ctx, call)
	}
	s.metrics.Operation(ctx, sn.Body.GetProvider(), telemetry.Snapshot, time.Since(began), err)
	if err == nil {
		return s.snapshotReady(ctx, sn, resp.GetSnapshot())
	}
	f := fault.From(err)
	if f.Effect == providerv1.Effect_EFFECT_NONE {
		if err := s.store.RemoveSnapshot(ctx, sn.ID()); err != nil {
			return state.Fault(err)
		}
	} else {
		s.unsettled.push(sn.Body.GetProvider())
	}
	return f.With("snapshot_id", sn.ID())
}

func (s *Service) snapshotReady(ctx context.Context, sn *state.Snapshot, vendor *providerv1.Snapshot) error {
	sn.Ready, sn.Handle = true, vendor.GetHandle()
	sn.Body.Kept, sn.Body.SizeBytes = vendor.GetKept(), vendor.SizeBytes
	if vendor.GetCreatedAt() != nil {
		sn.Body.CreatedAt = vendor.GetCreatedAt()
	}
	if err := s.store.UpdateSnapshot(ctx, sn); err != nil {
		return state.Fault(err)
	}
	return nil
}
