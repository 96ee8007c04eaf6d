package sdk

import (
	"context"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// The exec RPCs go to the driver's own ExecServer where it has one, and to the
// SDK's table otherwise.

func (x *service) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	if own, ok := x.s.driver.(ExecServer); ok {
		return answered(own.StartExec(ctx, req))
	}
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	launch := func(ctx context.Context) (Process, error) {
		return x.s.driver.StartProcess(ctx, req.GetSandbox(), req.GetExecId(), req.GetSpec())
	}
	e, err := x.s.execs.Start(ctx, key, req.GetRequestDigest(), req.GetSpec(), launch)
	if err != nil {
		return nil, err
	}
	return &providerv1.StartExecResponse{Exec: e}, nil
}

func (x *service) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	if own, ok := x.s.driver.(ExecServer); ok {
		return own.AttachExec(&gatedAttach{BidiStreamingServer: stream, server: x.s})
	}
	permit := func(in *providerv1.ExecInput) error { return x.s.described.Load().gateInput(in) }
	return x.missing(stream.Context(), x.s.execs.Attach(stream, permit))
}

// gatedAttach applies the gate to frames on their way to a driver's own
// ExecServer.
type gatedAttach struct {
	grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
	server *Server
}

// Recv returns a fault for a frame that needs what is not declared.
func (g *gatedAttach) Recv() (*providerv1.AttachExecRequest, error) {
	req, err := g.BidiStreamingServer.Recv()
	if err != nil {
		return nil, err
	}
	return req, g.server.described.Load().gateInput(req.GetInput())
}

// RecvMsg is Recv for a driver that passes frames on as they are. Input needs no
// capability that opening did not; whatever else a frame holds is decoded for the
// gate.
func (g *gatedAttach) RecvMsg(m any) error {
	if err := g.BidiStreamingServer.RecvMsg(m); err != nil {
		return err
	}
	frame, ok := m.(*relay.Frame)
	if !ok || frame.Bulk(1, 2, 2) { // input, ExecInput.stdin, ExecStdin.data
		return nil
	}
	req := &providerv1.AttachExecRequest{}
	if err := frame.Decode(req); err != nil {
		return fault.Field("input", "", "want a message of the contract: "+err.Error())
	}
	return g.server.described.Load().gateInput(req.GetInput())
}

func (x *service) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	if own, ok := x.s.driver.(ExecServer); ok {
		return answered(own.GetExec(ctx, req))
	}
	e, err := x.s.execs.Get(exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()})
	if err != nil {
		return nil, x.missingIn(ctx, req.GetSandbox(), err)
	}
	return &providerv1.GetExecResponse{Exec: e}, nil
}

func (x *service) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	if own, ok := x.s.driver.(ExecServer); ok {
		return answered(own.SignalExec(ctx, req))
	}
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	if err := x.s.execs.Signal(ctx, key, req.GetSignal()); err != nil {
		return nil, x.missingIn(ctx, req.GetSandbox(), err)
	}
	return &providerv1.SignalExecResponse{}, nil
}

func (x *service) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	if own, ok := x.s.driver.(ExecServer); ok {
		return answered(own.ListExecs(ctx, req))
	}
	list := x.s.execs.List(req.GetSandbox().GetSandboxId())
	if len(list) == 0 {
		if err := x.missingIn(ctx, req.GetSandbox(), nil); err != nil {
			return nil, err
		}
	}
	return &providerv1.ListExecsResponse{Execs: list}, nil
}

// missing and missingIn turn "no such exec" into "no such sandbox" where that is
// the truth: the table knows execs only.
func (x *service) missing(ctx context.Context, err error) error {
	f := fault.From(err)
	if f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND {
		return err
	}
	return x.missingIn(ctx, &providerv1.SandboxRef{SandboxId: f.Metadata["sandbox_id"]}, err)
}

func (x *service) missingIn(ctx context.Context, ref *providerv1.SandboxRef, err error) error {
	if err != nil && !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND) {
		return err
	}
	_, gone := x.s.driver.GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref}})
	if fault.Has(gone, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return gone
	}
	return err
}
