package main

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// remote is a provider as that of a cloud is: what it makes is in another process,
// which all brokers reach, and it keeps nothing itself. The cloud speaks the
// contract too, so there is little to translate.
type remote struct {
	mu    sync.Mutex
	conn  *grpc.ClientConn
	cloud providerv1.ProviderServiceClient
}

// Describe implements sdk.Driver.
func (r *remote) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	supported := providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED
	return &providerv1.DescribeResponse{
		Name: "remote", Vendor: "a process of the test", Version: "1.0.0",
		Capabilities: []*providerv1.Capability{
			{Id: "egress.deny", State: supported}, {Id: "exec.list", State: supported}, {Id: "exec.stdin", State: supported},
		},
		Settings: []*providerv1.Setting{{
			Name: "cloud", Type: providerv1.SettingType_SETTING_TYPE_STRING, Required: true, Description: "Path of the cloud's socket.",
		}},
	}, nil
}

// Configure implements sdk.Driver.
func (r *remote) Configure(_ context.Context, req *providerv1.ConfigureRequest) error {
	conn, err := grpc.NewClient("unix:"+req.GetSettings().GetFields()["cloud"].GetStringValue(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes)))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		err = r.conn.Close()
	}
	r.conn, r.cloud = conn, providerv1.NewProviderServiceClient(conn)
	return err
}

// of returns the answer of a call to the cloud, with its error as it is.
func of[Req, Resp any](ctx context.Context, call func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	out, err := call(ctx, req)
	if err != nil {
		return out, fault.From(err)
	}
	return out, nil
}

func (r *remote) client() providerv1.ProviderServiceClient {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cloud
}

// Probe implements sdk.Driver.
func (r *remote) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	return of(ctx, r.client().Probe, &providerv1.ProbeRequest{})
}

// CreateSandbox implements sdk.Driver.
func (r *remote) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	out, err := of(ctx, r.client().CreateSandbox, req)
	return out.GetSandbox(), err
}

// GetSandbox implements sdk.Driver.
func (r *remote) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	out, err := of(ctx, r.client().GetSandbox, req)
	return out.GetSandbox(), err
}

// ListSandboxes implements sdk.Driver.
func (r *remote) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return of(ctx, r.client().ListSandboxes, req)
}

// DeleteSandbox implements sdk.Driver.
func (r *remote) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	return of(ctx, r.client().DeleteSandbox, req)
}

// Recover implements sdk.Driver.
func (r *remote) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return of(ctx, r.client().Recover, req)
}

// StartProcess implements sdk.Driver; the cloud serves commands itself.
func (r *remote) StartProcess(context.Context, *providerv1.SandboxRef, string, *providerv1.ExecSpec) (sdk.Process, error) {
	return nil, errors.New("commands are the cloud's")
}

// StartExec implements sdk.ExecServer.
func (r *remote) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	return of(ctx, r.client().StartExec, req)
}

// GetExec implements sdk.ExecServer.
func (r *remote) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	return of(ctx, r.client().GetExec, req)
}

// SignalExec implements sdk.ExecServer.
func (r *remote) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return of(ctx, r.client().SignalExec, req)
}

// ListExecs implements sdk.ExecServer.
func (r *remote) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return of(ctx, r.client().ListExecs, req)
}

// AttachExec implements sdk.ExecServer.
func (r *remote) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	up, err := r.client().AttachExec(stream.Context(), relay.Call())
	if err != nil {
		return fault.From(err)
	}
	go func() { // ends with the stream
		if relay.Copy(up, stream) == nil {
			_ = up.CloseSend() // never fails; see grpc.ClientStream
		}
	}()
	if err := relay.Copy(stream, up); err != nil {
		return fault.From(err)
	}
	return nil
}
