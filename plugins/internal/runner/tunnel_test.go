package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func dial(t *testing.T, pool *Pool, start Starter, port int) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return pool.Dial(ctx, &providerv1.PortTarget{Sandbox: &providerv1.SandboxRef{SandboxId: "sbx_1"}, Port: uint32(port)}, start)
}

func mustDial(t *testing.T, pool *Pool, start Starter, port int) net.Conn {
	t.Helper()
	conn, err := dial(t, pool, start, port)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestTunnel: bytes of any value come back whole, behind the half-close too, and then
// the other side's end.
func TestTunnel(t *testing.T) {
	data := bytes.Repeat([]byte("every byte\x00\xff\n"), 40_000)
	pool, start := here(t)
	conn := mustDial(t, pool, start, peer(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v: want the %d that were sent", len(got), err, len(data))
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestTunnelRefused: a port that nothing listens on is said to be one.
func TestTunnelRefused(t *testing.T) {
	pool, start := here(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // nothing listens there now
	_, err = dial(t, pool, start, free)
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED) {
		t.Errorf("it is answered with %v: want PORT_REFUSED", err)
	}
}

// TestTunnelBreaks: a connection that was reset is not one that ended.
func TestTunnelBreaks(t *testing.T) {
	pool, start := here(t)
	conn := mustDial(t, pool, start, peer(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0) // closing resets
	}))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("reading ends with %v: want that it was reset", err)
	}
	_ = conn.Close() // it is over
}

// TestTunnelClose: closing ends what waits, and what carried the connection.
func TestTunnelClose(t *testing.T) {
	gone := make(chan struct{})
	pool, start := here(t)
	conn := mustDial(t, pool, start, peer(t, func(c *net.TCPConn) {
		defer close(gone)
		_, _ = io.Copy(io.Discard, c)
	}))
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that waited ends with %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after it ends with %v", err)
	}
	<-gone
}

// TestPoolClosesTunnels: closing the pool ends tunnels that nobody has closed.
func TestPoolClosesTunnels(t *testing.T) {
	pool, start := here(t)
	conn := mustDial(t, pool, start, peer(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	pool.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading ends with %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing ends with %v", err)
	}
	if _, err := dial(t, pool, start, 1); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DRAINING) {
		t.Errorf("a tunnel after it is answered with %v: want DRAINING", err)
	}
}
