package mutant

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type (
	// input and output are frames of AttachExec.
	input  = providerv1.ExecInput
	output = providerv1.ExecOutput
)

// request makes a wire mutant that changes requests of one method before the
// server sees them.
func request[Req any](method string, change func(req *Req)) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if r, ok := req.(*Req); ok && strings.HasSuffix(info.FullMethod, "/"+method) {
			change(r)
		}
		return handler(ctx, req)
	}
}

// starting makes a wire mutant that changes what commands are started with.
func starting(change func(*providerv1.ExecSpec)) grpc.UnaryServerInterceptor {
	return request("StartExec", func(r *providerv1.StartExecRequest) { change(r.GetSpec()) })
}

// attachment is one AttachExec stream as a wire mutant sees it. in and out are
// called with copies; each returns the frames to take in their place, and may be
// nil. Frames that in returns are handled as if the client had sent them.
type attachment struct {
	server providerv1.ProviderServiceServer
	open   *providerv1.ExecOpen
	in     func(*input) []*input
	out    func(*output) []*output
	// cut is called when the client cancelled, and returns last frames of input,
	// which are handled before the server notices. For outliving.
	cut func() []*input
	// done is closed when the stream has ended.
	done <-chan struct{}
	// end may change the error that the stream ends with.
	end func(grpc.ServerStream, error) error
}

// attaching makes a wire mutant of AttachExec. begin is called with the first
// frame, and may change it.
func attaching(begin func(*attachment)) grpc.StreamServerInterceptor {
	return attachments(false, begin)
}

// outliving is attaching for those that do something when the client cancelled.
func outliving(begin func(*attachment)) grpc.StreamServerInterceptor { return attachments(true, begin) }

func attachments(outlive bool, begin func(*attachment)) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !strings.HasSuffix(info.FullMethod, "/AttachExec") {
			return handler(srv, stream)
		}
		server, ok := srv.(providerv1.ProviderServiceServer)
		if !ok {
			return handler(srv, stream)
		}
		s := &attachedStream{ServerStream: stream, att: &attachment{server: server}, begin: begin}
		s.ctx = stream.Context()
		if outlive {
			s.ctx = context.WithoutCancel(s.ctx)
		}
		s.ctx, s.cancel = context.WithCancel(s.ctx)
		defer s.cancel()
		s.att.done = s.ctx.Done()
		err := handler(srv, s)
		if s.att.end != nil {
			err = s.att.end(stream, err)
		}
		return err
	}
}

// attachedStream applies an attachment's changes. One goroutine sends and one
// receives, as gRPC demands; the first frame received comes before all others.
type attachedStream struct {
	grpc.ServerStream
	att   *attachment
	begin func(*attachment)
	// ctx ends with the stream's, or, if the mutant outlives that, when everything
	// that was received has been handled.
	ctx    context.Context //nolint:containedctx // it is the stream's
	cancel context.CancelFunc

	begun  bool
	queue  []*input
	failed error
}

// Context implements grpc.ServerStream.
func (s *attachedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *attachedStream) RecvMsg(m any) error {
	into, ok := m.(*providerv1.AttachExecRequest)
	if !ok {
		return s.ServerStream.RecvMsg(m)
	}
	for len(s.queue) == 0 {
		if s.failed != nil {
			s.cancel()
			return s.failed
		}
		s.receive()
	}
	proto.Reset(into)
	into.Input = s.queue[0]
	s.queue = s.queue[1:]
	return nil
}

func (s *attachedStream) receive() {
	var got providerv1.AttachExecRequest
	if s.failed = s.ServerStream.RecvMsg(&got); s.failed != nil {
		if s.att.cut != nil {
			s.queue = s.att.cut()
		}
		return
	}
	if !s.begun {
		s.begun = true
		s.att.open = got.GetInput().GetOpen()
		s.begin(s.att)
	}
	s.queue = []*input{got.GetInput()}
	if s.att.in != nil {
		s.queue = s.att.in(got.GetInput())
	}
}

// SendMsg implements grpc.ServerStream.
func (s *attachedStream) SendMsg(m any) error {
	resp, ok := m.(*providerv1.AttachExecResponse)
	if !ok || s.att.out == nil {
		return s.ServerStream.SendMsg(m)
	}
	for _, f := range s.att.out(clone(resp).GetOutput()) {
		if err := s.ServerStream.SendMsg(&providerv1.AttachExecResponse{Output: f}); err != nil {
			return err
		}
	}
	return nil
}

// printing makes a wire mutant that changes each frame of output in place.
func printing(change func(*output)) grpc.StreamServerInterceptor {
	return attaching(func(a *attachment) {
		a.out = func(f *output) []*output {
			change(f)
			return []*output{f}
		}
	})
}

// typing makes a wire mutant that decides about each frame of input whether it is
// heard, and may change it.
func typing(hear func(*input) bool) grpc.StreamServerInterceptor {
	return attaching(func(a *attachment) { a.in = func(f *input) []*input { return heard(f, hear(f)) } })
}

func heard(f *input, ok bool) []*input {
	if !ok {
		return nil
	}
	return []*input{f}
}

// ends makes a wire mutant that changes how commands end, wherever that is said
// in a stream.
func ends(change func(*providerv1.ExitStatus)) grpc.StreamServerInterceptor {
	return printing(func(f *output) {
		for _, exit := range []*providerv1.ExitStatus{f.GetExit(), f.GetDone().GetExit()} {
			if exit != nil {
				change(exit)
			}
		}
	})
}

// add returns a change of memory.
func add(d int64) func(int64) int64 { return func(n int64) int64 { return n + d } }

// record asks the server itself about a command.
func (a *attachment) record() *providerv1.Exec {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	resp, err := a.server.GetExec(ctx, &providerv1.GetExecRequest{Sandbox: a.open.GetSandbox(), ExecId: a.open.GetExecId()})
	if err != nil {
		return nil
	}
	return resp.GetExec()
}
