package sdk

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// service maps the RPCs to the driver. By the time a method runs, the gate has
// refused what the driver does not declare, and declared capabilities are
// implemented: NewServer made sure of both.
type service struct {
	providerv1.UnimplementedProviderServiceServer
	s *Server
}

// as returns the driver as an optional interface. It panics if the gate let
// something through that the driver does not implement, which the panic guard
// reports.
func as[T any](x *service) T {
	t, ok := x.s.driver.(T)
	if !ok {
		panic(fmt.Sprintf("the driver does not implement %T", (*T)(nil)))
	}
	return t
}

// answered refuses a driver's answer of nothing.
func answered[T any](v *T, err error) (*T, error) {
	if err == nil && v == nil {
		return nil, bug("the driver returned neither an answer nor an error")
	}
	return v, err
}

func (x *service) Describe(context.Context, *providerv1.DescribeRequest) (*providerv1.DescribeResponse, error) {
	clone, _ := proto.Clone(x.s.described.Load().answer).(*providerv1.DescribeResponse)
	return clone, nil
}

// Configure is the only writer of described and configured.
func (x *service) Configure(ctx context.Context, req *providerv1.ConfigureRequest) (*providerv1.ConfigureResponse, error) {
	s := x.s
	s.configure.Lock()
	defer s.configure.Unlock()
	old := s.described.Load()
	if err := checkSettings(old.answer.GetSettings(), req); err != nil {
		return nil, err
	}
	if err := s.denied.open(req.GetStateDir()); err != nil {
		return nil, err
	}
	// The driver's errors may quote the new secrets already.
	before := s.secrets.Load()
	s.secrets.Store(newRedactor(req.GetSecrets()))
	if err := s.driver.Configure(ctx, req); err != nil {
		err = s.secrets.Load().redactError(err)
		s.secrets.Store(before)
		return nil, err
	}
	generation := old.answer.GetConfigGeneration() + 1
	d, err := s.describe(ctx, generation)
	if err != nil {
		return nil, bug("after Configure: %v", err).WithEffect(providerv1.Effect_EFFECT_APPLIED)
	}
	s.described.Store(d)
	s.configured.Store(true)
	return &providerv1.ConfigureResponse{ConfigGeneration: generation}, nil
}

func (x *service) Probe(ctx context.Context, _ *providerv1.ProbeRequest) (*providerv1.ProbeResponse, error) {
	return answered(x.s.driver.Probe(ctx))
}

func (x *service) Drain(ctx context.Context, req *providerv1.DrainRequest) (*providerv1.DrainResponse, error) {
	unfinished, err := x.s.Drain(ctx, req.GetGrace().AsDuration())
	if err != nil {
		return nil, err
	}
	return &providerv1.DrainResponse{Unfinished: int32(unfinished)}, nil
}

func (x *service) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.CreateSandboxResponse, error) {
	sb, err := sandbox(x.s.driver.CreateSandbox(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.CreateSandboxResponse{Sandbox: sb}, nil
}

func (x *service) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.GetSandboxResponse, error) {
	sb, err := sandbox(x.s.driver.GetSandbox(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.GetSandboxResponse{Sandbox: sb}, nil
}

func (x *service) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return answered(x.s.driver.ListSandboxes(ctx, req))
}

// DeleteSandbox tells the exec table first, so that commands which end because
// of it say so.
func (x *service) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	finish := x.s.execs.Deleting(req.GetSandbox().GetSandboxId())
	resp, err := answered(x.s.driver.DeleteSandbox(ctx, req))
	finish(err == nil)
	return resp, err
}

func (x *service) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	resp, err := answered(x.s.driver.Recover(ctx, req))
	if err == nil && len(resp.GetRecoveries()) != len(req.GetSandboxes()) {
		return nil, bug("the driver answered %d of %d recoveries", len(resp.GetRecoveries()), len(req.GetSandboxes()))
	}
	return resp, err
}

func (x *service) PauseSandbox(ctx context.Context, req *providerv1.PauseSandboxRequest) (*providerv1.PauseSandboxResponse, error) {
	sb, err := sandbox(as[Pauser](x).PauseSandbox(ctx, req))
	if err != nil {
		return nil, err
	}
	if err := keptEnough(req.GetMinimum(), sb.GetKept()); err != nil {
		return nil, err
	}
	return &providerv1.PauseSandboxResponse{Sandbox: sb}, nil
}

func (x *service) ResumeSandbox(ctx context.Context, req *providerv1.ResumeSandboxRequest) (*providerv1.ResumeSandboxResponse, error) {
	sb, err := sandbox(as[Pauser](x).ResumeSandbox(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.ResumeSandboxResponse{Sandbox: sb}, nil
}

func (x *service) CreateSnapshot(ctx context.Context, req *providerv1.CreateSnapshotRequest) (*providerv1.CreateSnapshotResponse, error) {
	snap, err := answered(as[Snapshotter](x).CreateSnapshot(ctx, req))
	if err != nil {
		return nil, err
	}
	if err := keptEnough(req.GetMinimum(), snap.GetKept()); err != nil {
		return nil, err
	}
	return &providerv1.CreateSnapshotResponse{Snapshot: snap}, nil
}

func (x *service) ListSnapshots(ctx context.Context, req *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	return answered(as[Snapshotter](x).ListSnapshots(ctx, req))
}

func (x *service) DeleteSnapshot(ctx context.Context, req *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	return answered(as[Snapshotter](x).DeleteSnapshot(ctx, req))
}

func (x *service) RestoreSnapshot(ctx context.Context, req *providerv1.RestoreSnapshotRequest) (*providerv1.RestoreSnapshotResponse, error) {
	sb, err := sandbox(as[Snapshotter](x).RestoreSnapshot(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.RestoreSnapshotResponse{Sandbox: sb}, nil
}

func (x *service) ForkSandbox(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	resp, err := answered(as[Forker](x).ForkSandbox(ctx, req))
	if err == nil && len(resp.GetSandboxes()) != len(req.GetIdentities()) {
		return nil, bug("the driver made %d of %d copies", len(resp.GetSandboxes()), len(req.GetIdentities())).
			WithEffect(providerv1.Effect_EFFECT_APPLIED)
	}
	return resp, err
}

// maxHandle is what the contract allows in Handle.data.
const maxHandle = 4096

// sandbox checks what every driver owes: an answer, with identity, and a handle
// that the broker can store.
func sandbox(sb *providerv1.Sandbox, err error) (*providerv1.Sandbox, error) {
	switch {
	case err != nil:
		return nil, err
	case sb == nil:
		return nil, bug("the driver returned no sandbox and no error")
	case sb.GetIdentity().GetSandboxId() == "":
		return nil, bug("the driver returned a sandbox without identity.sandbox_id")
	case len(sb.GetHandle().GetData()) > maxHandle:
		return nil, bug("the driver returned a handle of %d bytes; the contract allows %d", len(sb.GetHandle().GetData()), maxHandle)
	}
	return sb, nil
}

// keptEnough is REQ-KEEP-001 seen from the answer: less than the minimum is a
// lie that must not reach the caller as a success.
func keptEnough(minimum, kept *providerv1.Keeps) error {
	if (!minimum.GetDisk() || kept.GetDisk()) && (!minimum.GetMemory() || kept.GetMemory()) &&
		(!minimum.GetProcesses() || kept.GetProcesses()) {
		return nil
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
		"the driver kept {%v}, less than the minimum {%v}", kept, minimum).WithEffect(providerv1.Effect_EFFECT_APPLIED)
}
