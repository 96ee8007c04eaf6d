package sdk

import (
	"context"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (x *service) ListPorts(ctx context.Context, req *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	return answered(as[PortLister](x).ListPorts(ctx, req))
}

func (x *service) GetPortURL(ctx context.Context, req *providerv1.GetPortURLRequest) (*providerv1.GetPortURLResponse, error) {
	return answered(as[PortURLGetter](x).GetPortURL(ctx, req))
}

func (x *service) UpdateEgress(ctx context.Context, req *providerv1.UpdateEgressRequest) (*providerv1.UpdateEgressResponse, error) {
	return answered(as[EgressUpdater](x).UpdateEgress(ctx, req))
}

func (x *service) WatchFlows(req *providerv1.WatchFlowsRequest, stream grpc.ServerStreamingServer[providerv1.WatchFlowsResponse]) error {
	return as[FlowSource](x).WatchFlows(stream.Context(), req.GetOwner(), func(f *providerv1.Flow) error {
		return stream.Send(&providerv1.WatchFlowsResponse{Flow: f})
	})
}

// OpenTunnel connects first and answers Opened only then, so that a refused port
// is an error of the call.
func (x *service) OpenTunnel(stream grpc.BidiStreamingServer[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	req, err := stream.Recv()
	if err != nil {
		return firstFrame(err, "frame.open")
	}
	conn, err := as[PortDialer](x).DialPort(stream.Context(), req.GetFrame().GetOpen().GetPort())
	if err != nil {
		return err
	}
	if conn == nil {
		return bug("the driver returned neither a connection nor an error")
	}
	t := &tunnel{
		conn: conn,
		send: func(f *providerv1.TunnelFrame) error { return stream.Send(&providerv1.OpenTunnelResponse{Frame: f}) },
		recv: func() (*providerv1.TunnelFrame, error) {
			req, err := stream.Recv()
			return req.GetFrame(), err
		},
	}
	return t.carry(stream.Context(), x.s)
}

// CarryFlow leaves the decision with the client: behind Open, its Opened frame
// lets the flow in, and anything else, or the end of the stream, refuses it.
func (x *service) CarryFlow(stream grpc.BidiStreamingServer[providerv1.CarryFlowRequest, providerv1.CarryFlowResponse]) error {
	req, err := stream.Recv()
	if err != nil {
		return firstFrame(err, "frame.open")
	}
	flows, id := as[FlowSource](x), req.GetFrame().GetOpen().GetFlowId()
	answer, err := stream.Recv()
	if err != nil || answer.GetFrame().GetOpened() == nil {
		// The stream may be gone already; the flow must be refused all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(stream.Context()), refuseTimeout)
		defer cancel()
		return flows.RefuseFlow(ctx, id)
	}
	conn, err := flows.AcceptFlow(stream.Context(), id)
	if err != nil {
		return err
	}
	if conn == nil {
		return bug("the driver returned neither a connection nor an error")
	}
	t := &tunnel{
		conn: conn,
		send: func(f *providerv1.TunnelFrame) error { return stream.Send(&providerv1.CarryFlowResponse{Frame: f}) },
		recv: func() (*providerv1.TunnelFrame, error) {
			req, err := stream.Recv()
			return req.GetFrame(), err
		},
	}
	return t.carry(stream.Context(), x.s)
}

func (x *service) ExtendLifetime(ctx context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.ExtendLifetimeResponse, error) {
	sb, err := sandbox(as[LifetimeExtender](x).ExtendLifetime(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.ExtendLifetimeResponse{Sandbox: sb}, nil
}

func (x *service) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.GetUsageResponse, error) {
	usage, err := answered(as[UsageReader](x).GetUsage(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.GetUsageResponse{Usage: usage}, nil
}

func (x *service) WatchSandboxes(req *providerv1.WatchSandboxesRequest, stream grpc.ServerStreamingServer[providerv1.WatchSandboxesResponse]) error {
	return as[Watcher](x).WatchSandboxes(stream.Context(), req.GetOwner(), stream.Send)
}

func (x *service) CreateVolume(ctx context.Context, req *providerv1.CreateVolumeRequest) (*providerv1.CreateVolumeResponse, error) {
	v, err := answered(as[VolumeKeeper](x).CreateVolume(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.CreateVolumeResponse{Volume: v}, nil
}

func (x *service) ListVolumes(ctx context.Context, req *providerv1.ListVolumesRequest) (*providerv1.ListVolumesResponse, error) {
	return answered(as[VolumeKeeper](x).ListVolumes(ctx, req))
}

func (x *service) DeleteVolume(ctx context.Context, req *providerv1.DeleteVolumeRequest) (*providerv1.DeleteVolumeResponse, error) {
	return answered(as[VolumeKeeper](x).DeleteVolume(ctx, req))
}
