package api

import (
	"context"
	"runtime/debug"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
)

func stack() string { return string(debug.Stack()) }

// sandboxes serves SandboxService.
type sandboxes struct{ s *broker.Service }

var _ brokerv1connect.SandboxServiceHandler = sandboxes{}

// answer wraps what a service method returned.
func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(msg), nil
}

func (h sandboxes) CreateSandbox(ctx context.Context, req *connect.Request[brokerv1.CreateSandboxRequest]) (*connect.Response[brokerv1.CreateSandboxResponse], error) {
	sb, err := h.s.CreateSandbox(ctx, req.Msg)
	return answer(&brokerv1.CreateSandboxResponse{Sandbox: sb}, err)
}

func (h sandboxes) PlanSandbox(ctx context.Context, req *connect.Request[brokerv1.PlanSandboxRequest]) (*connect.Response[brokerv1.PlanSandboxResponse], error) {
	place, err := h.s.PlanSandbox(ctx, req.Msg.GetCreate())
	return answer(&brokerv1.PlanSandboxResponse{Placement: place}, err)
}

func (h sandboxes) ExplainSandbox(ctx context.Context, req *connect.Request[brokerv1.ExplainSandboxRequest]) (*connect.Response[brokerv1.ExplainSandboxResponse], error) {
	place, err := h.s.ExplainSandbox(ctx, req.Msg.GetSandbox())
	return answer(&brokerv1.ExplainSandboxResponse{Placement: place}, err)
}

func (h sandboxes) GetSandbox(ctx context.Context, req *connect.Request[brokerv1.GetSandboxRequest]) (*connect.Response[brokerv1.GetSandboxResponse], error) {
	sb, err := h.s.GetSandbox(ctx, req.Msg)
	return answer(&brokerv1.GetSandboxResponse{Sandbox: sb}, err)
}

func (h sandboxes) ListSandboxes(ctx context.Context, req *connect.Request[brokerv1.ListSandboxesRequest]) (*connect.Response[brokerv1.ListSandboxesResponse], error) {
	return answer(h.s.ListSandboxes(ctx, req.Msg))
}

func (h sandboxes) DeleteSandbox(ctx context.Context, req *connect.Request[brokerv1.DeleteSandboxRequest]) (*connect.Response[brokerv1.DeleteSandboxResponse], error) {
	absent, err := h.s.DeleteSandboxWhile(ctx, req.Msg)
	return answer(&brokerv1.DeleteSandboxResponse{AlreadyAbsent: absent}, err)
}

func (h sandboxes) PauseSandbox(ctx context.Context, req *connect.Request[brokerv1.PauseSandboxRequest]) (*connect.Response[brokerv1.PauseSandboxResponse], error) {
	sb, err := h.s.PauseSandbox(ctx, req.Msg)
	return answer(&brokerv1.PauseSandboxResponse{Sandbox: sb}, err)
}

func (h sandboxes) ResumeSandbox(ctx context.Context, req *connect.Request[brokerv1.ResumeSandboxRequest]) (*connect.Response[brokerv1.ResumeSandboxResponse], error) {
	sb, err := h.s.ResumeSandbox(ctx, req.Msg.GetSandbox())
	return answer(&brokerv1.ResumeSandboxResponse{Sandbox: sb}, err)
}

func (h sandboxes) ExtendSandbox(ctx context.Context, req *connect.Request[brokerv1.ExtendSandboxRequest]) (*connect.Response[brokerv1.ExtendSandboxResponse], error) {
	sb, err := h.s.ExtendSandbox(ctx, req.Msg)
	return answer(&brokerv1.ExtendSandboxResponse{Sandbox: sb}, err)
}

func (h sandboxes) ForkSandbox(ctx context.Context, req *connect.Request[brokerv1.ForkSandboxRequest]) (*connect.Response[brokerv1.ForkSandboxResponse], error) {
	copies, err := h.s.ForkSandbox(ctx, req.Msg)
	return answer(&brokerv1.ForkSandboxResponse{Sandboxes: copies}, err)
}

func (h sandboxes) CreateSnapshot(ctx context.Context, req *connect.Request[brokerv1.CreateSnapshotRequest]) (*connect.Response[brokerv1.CreateSnapshotResponse], error) {
	sn, err := h.s.CreateSnapshot(ctx, req.Msg)
	return answer(&brokerv1.CreateSnapshotResponse{Snapshot: sn}, err)
}

func (h sandboxes) ListSnapshots(ctx context.Context, req *connect.Request[brokerv1.ListSnapshotsRequest]) (*connect.Response[brokerv1.ListSnapshotsResponse], error) {
	return answer(h.s.ListSnapshots(ctx, req.Msg))
}

func (h sandboxes) DeleteSnapshot(ctx context.Context, req *connect.Request[brokerv1.DeleteSnapshotRequest]) (*connect.Response[brokerv1.DeleteSnapshotResponse], error) {
	absent, err := h.s.DeleteSnapshot(ctx, req.Msg.GetSnapshot())
	return answer(&brokerv1.DeleteSnapshotResponse{AlreadyAbsent: absent}, err)
}

func (h sandboxes) RestoreSnapshot(ctx context.Context, req *connect.Request[brokerv1.RestoreSnapshotRequest]) (*connect.Response[brokerv1.RestoreSnapshotResponse], error) {
	sb, err := h.s.RestoreSnapshot(ctx, req.Msg)
	return answer(&brokerv1.RestoreSnapshotResponse{Sandbox: sb}, err)
}

func (h sandboxes) CreateVolume(ctx context.Context, req *connect.Request[brokerv1.CreateVolumeRequest]) (*connect.Response[brokerv1.CreateVolumeResponse], error) {
	v, err := h.s.CreateVolume(ctx, req.Msg)
	return answer(&brokerv1.CreateVolumeResponse{Volume: v}, err)
}

func (h sandboxes) ListVolumes(ctx context.Context, req *connect.Request[brokerv1.ListVolumesRequest]) (*connect.Response[brokerv1.ListVolumesResponse], error) {
	return answer(h.s.ListVolumes(ctx, req.Msg.GetProvider()))
}

func (h sandboxes) DeleteVolume(ctx context.Context, req *connect.Request[brokerv1.DeleteVolumeRequest]) (*connect.Response[brokerv1.DeleteVolumeResponse], error) {
	absent, err := h.s.DeleteVolume(ctx, req.Msg)
	return answer(&brokerv1.DeleteVolumeResponse{AlreadyAbsent: absent}, err)
}
