package mutant

import (
	"context"
	"strings"

	"google.golang.org/grpc"
)

// answer makes a wire mutant that changes the answer of one method. change may
// change resp in place and returns the error to answer with.
func answer[Resp any](method string, change func(req any, resp *Resp, err error) error) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		out, err := handler(ctx, req)
		if !strings.HasSuffix(info.FullMethod, "/"+method) {
			return out, err
		}
		resp, _ := out.(*Resp) // nil with an error
		err = change(req, resp, err)
		return resp, err
	}
}

// frames makes a wire mutant that sees each frame a streaming method sends, and
// returns the frames to send in its place.
func frames[Frame any](method string, change func() func(*Frame) []*Frame) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !strings.HasSuffix(info.FullMethod, "/"+method) {
			return handler(srv, stream)
		}
		return handler(srv, &changedStream[Frame]{ServerStream: stream, change: change()})
	}
}

type changedStream[Frame any] struct {
	grpc.ServerStream
	change func(*Frame) []*Frame
}

// SendMsg implements grpc.ServerStream.
func (s *changedStream[Frame]) SendMsg(m any) error {
	frame, ok := m.(*Frame)
	if !ok {
		return s.ServerStream.SendMsg(m)
	}
	for _, f := range s.change(frame) {
		if err := s.ServerStream.SendMsg(f); err != nil {
			return err
		}
	}
	return nil
}
