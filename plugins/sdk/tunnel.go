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
	defer t.conn.Close() //nolint:errcheck // nothing is left to tell
	stop := context.AfterFunc(ctx, func() { _ = t.conn.Close() })
	defer stop()
	if err := t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}}); err != nil {
		return err
	}
	inward := make(chan error, 1)
	s.wg.Go(func() { inward <- t.inward() })
	outward := t.outward()
	if outward != nil {
		return t.reset(ctx, outward)
	}
	select {
	case err := <-inward:
		return t.reset(ctx, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outward moves what the connection sends to the client. It ends the connection
// when it fails, so that inward ends too.
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
			return &resetError{err}
		}
	}
}

// inward moves what the client sends to the connection. An error closes the
// connection, which makes outward's Read return.
func (t *tunnel) inward() (err error) {
	defer func() {
		if err != nil {
			_ = t.conn.Close()
		}
	}()
	closed := false
	for {
		f, err := t.recv()
		if errors.Is(err, io.EOF) { // the client's CloseSend is a half-close
			if closed {
				return nil
			}
			return t.closeWrite()
		}
		if err != nil {
			return err
		}
		switch f := f.GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			if closed {
				return fault.Field("frame.data", strconv.Itoa(len(f.Data))+" bytes", "want nothing behind half_close")
			}
			if len(f.Data) > handshake.FrameBytesHard {
				return fault.Field("frame.data", strconv.Itoa(len(f.Data))+" bytes", "want at most "+strconv.Itoa(handshake.FrameBytesHard))
			}
			if _, err := t.conn.Write(f.Data); err != nil {
				return &resetError{err}
			}
		case *providerv1.TunnelFrame_HalfClose:
			if closed {
				continue
			}
			if err := t.closeWrite(); err != nil {
				return err
			}
			// Half-closed; only a reset can still come. Do not wait for it.
			return nil
		case *providerv1.TunnelFrame_Reset_:
			abort(t.conn)
			return errReset
		default:
			return fault.Field("frame", "", "want data, half_close or reset")
		}
	}
}

// errReset says that the client reset the connection; there is nobody to tell.
var errReset = errors.New("reset by the client")

// resetError is a broken connection.
type resetError struct{ err error }

func (e *resetError) Error() string { return e.err.Error() }
func (e *resetError) Unwrap() error { return e.err }

func (t *tunnel) closeWrite() error {
	if c, ok := t.conn.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			return &resetError{err}
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

// reset tells the client about a connection that broke.
func (t *tunnel) reset(ctx context.Context, err error) error {
	var broken *resetError
	switch {
	case err == nil, errors.Is(err, errReset):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &broken):
		return t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Reset_{Reset_: &providerv1.TunnelReset{Reason: broken.Error()}}})
	}
	return err
}
