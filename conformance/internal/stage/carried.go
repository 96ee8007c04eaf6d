package stage

import (
	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// frames is a stream that carries one connection.
type frames interface {
	Send(*providerv1.TunnelFrame) error
	Recv() (*providerv1.TunnelFrame, error)
}

type tunnelFrames struct {
	stream grpc.BidiStreamingClient[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]
}

// Send implements frames.
func (f tunnelFrames) Send(frame *providerv1.TunnelFrame) error {
	return f.stream.Send(&providerv1.OpenTunnelRequest{Frame: frame})
}

// Recv implements frames.
func (f tunnelFrames) Recv() (*providerv1.TunnelFrame, error) {
	resp, err := f.stream.Recv()
	return resp.GetFrame(), err
}

type flowFrames struct {
	stream grpc.BidiStreamingClient[providerv1.CarryFlowRequest, providerv1.CarryFlowResponse]
}

// Send implements frames.
func (f flowFrames) Send(frame *providerv1.TunnelFrame) error {
	return f.stream.Send(&providerv1.CarryFlowRequest{Frame: frame})
}

// Recv implements frames.
func (f flowFrames) Recv() (*providerv1.TunnelFrame, error) {
	resp, err := f.stream.Recv()
	return resp.GetFrame(), err
}
