package sdk

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// refuseTimeout bounds refusing a flow whose stream has ended.
const refuseTimeout = 5 * time.Second

// tunnel carries one connection over a stream of TunnelFrames.
type tunnel struct {
	conn net.Conn
	send func(*providerv1.TunnelFrame) error
	recv func() (*providerv1.TunnelFrame, error)
}

// carry sends Opened and moves bytes until both directions are closed or one of
// them breaks. It closes the connection. Memory is one frame per direction: the
// connection and the stream have flow control of their own.
func (t *tunnel) carry(ctx context.Context, s *Server) error {
	defer t.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = t.conn.Close() })
	defer stop()
	if err := t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}}); err != nil {
		return err
	}
	halfClosed := make(chan struct{})
	broken := make(chan error, 1)
	s.wg.Go(func() {
		if err := t.inward(halfClosed); err != nil {
			broken <- err
			_ = t.conn.Close() // outward's Read returns
		}
	})
	outward := t.outward()
	if outward == nil {
		select {
		case <-halfClosed:
			return nil
		case err := <-broken:
			return t.farewell(ctx, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case err := <-broken: // it came first: outward failed because of it
		return t.farewell(ctx, err)
	default:
		return t.farewell(ctx, outward)
	}
}

// outward moves what the connection sends to the client.
func (t *tunnel) outward() error {
	buf := make([]byte, handshake.FrameBytes)
	for {
		n, err := t.conn.Read(buf)
		if n > 0 {
			if err := t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: buf[:n]}}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}})
		}
		if err != nil {
			return &brokenError{err}
		}
	}
}

// inward moves what the client sends to the connection. Behind the half-close it
// reads on, because a reset may still come, until the stream ends.
func (t *tunnel) inward(halfClosed chan<- struct{}) error {
	closed := false
	for {
		f, err := t.recv()
		if errors.Is(err, io.EOF) { // the client's CloseSend is a half-close
			if closed {
				return nil
			}
			defer close(halfClosed)
			return t.closeWrite()
		}
		if err != nil {
			return err
		}
		switch f := f.GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			if err := t.deliver(f.Data, closed); err != nil {
				return err
			}
		case *providerv1.TunnelFrame_HalfClose:
			if closed {
				continue
			}
			if err := t.closeWrite(); err != nil {
				return err
			}
			closed = true
			close(halfClosed)
		case *providerv1.TunnelFrame_Reset_:
			abort(t.conn)
			return errReset
		default:
			return fault.Field("frame", "", "want data, half_close or reset")
		}
	}
}

func (t *tunnel) deliver(data []byte, closed bool) error {
	size := strconv.Itoa(len(data)) + " bytes"
	if closed {
		return fault.Field("frame.data", size, "want nothing behind half_close")
	}
	if len(data) > handshake.FrameBytesHard {
		return fault.Field("frame.data", size, "want at most "+strconv.Itoa(handshake.FrameBytesHard)+" bytes")
	}
	if _, err := t.conn.Write(data); err != nil {
		return &brokenError{err}
	}
	return nil
}

// errReset says that the client reset the connection; there is nobody to tell.
var errReset = errors.New("reset by the client")

// brokenError is a connection that ended without its proper close.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

func (t *tunnel) closeWrite() error {
	if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			return &brokenError{err}
		}
		return nil
	}
	// Half-closing is not possible: end both directions rather than let the peer
	// wait for an end that never comes.
	return t.conn.Close()
}

// abort makes closing send a reset where the connection can.
func abort(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
	}
}

// farewell tells the client about a connection that broke.
func (t *tunnel) farewell(ctx context.Context, err error) error {
	var broken *brokenError
	switch {
	case errors.Is(err, errReset):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &broken):
		return t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Reset_{Reset_: &providerv1.TunnelReset{Reason: broken.Error()}}})
	}
	return err
}
