package sdk

import (
	"context"

	"google.golang.org/grpc"
)

// stream is the way of every streaming call: the method's capability at once,
// the rest of the gate on the first frame, and a context that also ends when the
// server drains.
func (s *Server) stream(srv any, full string, ss grpc.ServerStream, handler grpc.StreamHandler) error {
	m := methodOf(full)
	if err := s.described.Load().gate(full, nil); err != nil {
		return s.refusal(err)
	}
	if !s.configured.Load() {
		return s.refusal(errNotConfigured())
	}
	parent := s.streams
	if m.endless {
		parent = s.watches
	}
	if parent.Err() != nil {
		return s.refusal(errDraining())
	}
	leave, _ := s.inflight.enter(false)
	defer leave()
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	stop := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	defer stop()
	gated := &gatedStream{ServerStream: ss, server: s, ctx: ctx}
	err := s.guarded(func() error { return handler(srv, gated) })
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && ss.Context().Err() == nil {
		err = cause // the server ended the stream, whatever the driver made of it
	}
	return s.convert(m, err)
}

// gatedStream checks the first frame.
type gatedStream struct {
	grpc.ServerStream
	server *Server
	ctx    context.Context //nolint:containedctx // a ServerStream carries one
	opened bool
}

func (g *gatedStream) Context() context.Context { return g.ctx }

// RecvMsg is called by one goroutine at a time, as grpc demands.
func (g *gatedStream) RecvMsg(m any) error {
	if err := g.ServerStream.RecvMsg(m); err != nil || g.opened {
		return err
	}
	g.opened = true
	if err := g.server.described.Load().gateMessage(m); err != nil {
		return err
	}
	return validate(m)
}
