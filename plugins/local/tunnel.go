package local

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// tunnelConn shows a tunnel to a shim as a connection. Read is called by one
// goroutine at a time, and Write by one.
type tunnelConn struct {
	stream tunnelStream
	cancel context.CancelFunc
	rest   []byte
	ended  error

	send   sync.Mutex
	closed bool
}

func newTunnelConn(stream tunnelStream, cancel context.CancelFunc) *tunnelConn {
	return &tunnelConn{stream: stream, cancel: cancel}
}

// Read implements net.Conn.
func (c *tunnelConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.ended != nil {
			return 0, c.ended
		}
		m, err := c.stream.Recv()
		if err != nil {
			c.ended = err
			continue
		}
		switch f := m.GetFrame().GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			c.rest = f.Data
		case *providerv1.TunnelFrame_HalfClose:
			c.ended = io.EOF
		case *providerv1.TunnelFrame_Reset_:
			c.ended = syscall.ECONNRESET
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *tunnelConn) Write(p []byte) (int, error) {
	c.send.Lock()
	defer c.send.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, frameBytes)
		frame := &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: p[sent : sent+n]}}
		if err := c.stream.Send(&providerv1.OpenTunnelRequest{Frame: frame}); err != nil {
			return sent, syscall.EPIPE
		}
		sent += n
	}
	return len(p), nil
}

// CloseWrite ends this side's direction.
func (c *tunnelConn) CloseWrite() error {
	c.send.Lock()
	defer c.send.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	frame := &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}}
	return errors.Join(c.stream.Send(&providerv1.OpenTunnelRequest{Frame: frame}), c.stream.CloseSend())
}

// Close ends both directions.
func (c *tunnelConn) Close() error {
	c.cancel()
	return nil
}

// tunnelAddr names the ends of a tunnel, which have no network address.
type tunnelAddr string

func (a tunnelAddr) Network() string { return "tunnel" }
func (a tunnelAddr) String() string  { return string(a) }

// LocalAddr implements net.Conn.
func (c *tunnelConn) LocalAddr() net.Addr { return tunnelAddr("plugin") }

// RemoteAddr implements net.Conn.
func (c *tunnelConn) RemoteAddr() net.Addr { return tunnelAddr("sandbox") }

// SetDeadline implements net.Conn; a tunnel has none but its context.
func (c *tunnelConn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (c *tunnelConn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (c *tunnelConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
