package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// frameSize is the payload the contract allows for.
const frameSize = 32 << 10

// Tunnel is one opened tunnel. Send and Receive may run at the same time.
type Tunnel interface {
	Send(*providerv1.TunnelFrame) error
	Receive() (*providerv1.TunnelFrame, error)
}

// Opener opens a tunnel whose life is the context.
type Opener func(context.Context) (Tunnel, error)

// Options are what Serve needs beside the listener.
type Options struct {
	Target *providerv1.PortTarget
	Open   Opener
	// Failed is told of connections that could not be carried; it is called from
	// several goroutines.
	Failed func(error)
}

// Serve accepts connections until the context ends.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		wg.Go(func() {
			if err := carry(ctx, conn, o); err != nil && ctx.Err() == nil {
				o.Failed(err)
			}
		})
	}
}

// carry moves bytes both ways until both directions have ended.
func carry(ctx context.Context, conn net.Conn, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = conn.Close() }()
	t, err := o.Open(ctx)
	if err != nil {
		return err
	}
	if err := t.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{
		Open: &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: o.Target}},
	}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first, err := t.Receive()
	if err != nil {
		return err
	}
	if first.GetOpened() == nil {
		return fmt.Errorf("the tunnel began with %T instead of Opened", first.GetFrame())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var up sync.WaitGroup
	up.Go(func() { outward(conn, t) })
	err = inward(conn, t)
	// The tunnel is over: what the local side still sends has nowhere to go.
	cancel()
	_ = conn.Close()
	up.Wait()
	return err
}

// outward sends what the local side writes; its end is the half-close.
func outward(conn net.Conn, t Tunnel) {
	buf := make([]byte, frameSize)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			// A sent message is not kept by the transport, so buf can be used again.
			if t.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: buf[:n]}}) != nil {
				return
			}
		}
		if err != nil {
			_ = t.Send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}})
			return
		}
	}
}

// inward writes what comes out of the sandbox.
func inward(conn net.Conn, t Tunnel) error {
	for {
		f, err := t.Receive()
		if errors.Is(err, io.EOF) {
			_ = closeWrite(conn) // the local side may have gone, which is its right
			return nil
		}
		if err != nil {
			reset(conn)
			return err
		}
		switch f := f.GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			if _, err := conn.Write(f.Data); err != nil {
				return nil //nolint:nilerr // the local side went away, which is its right
			}
		case *providerv1.TunnelFrame_HalfClose:
			if err := closeWrite(conn); err != nil {
				return nil //nolint:nilerr // the local side went away
			}
		case *providerv1.TunnelFrame_Reset_:
			reset(conn)
			return nil
		}
	}
}

func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return conn.Close()
}

// reset ends a TCP connection the way the peer inside did.
func reset(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}
