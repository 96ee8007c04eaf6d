package runner

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// # Tunnels
//
// Vendors show ports to the world, by HTTP, and many have no way to one that is not
// shown. So a tunnel is a command, with the runner, that connects and carries what
// comes on its standard input and what goes to its standard output. On its standard
// error it says:
//
//	open            it is connected
//	refused ERRNO   it is not; the last line
//	end             the other side will send no more
//	reset ERRNO     the connection broke

//go:embed relay.pl
var relayScript string

// mostWaiting is how much of what goes in waits for the vendor, so that many small
// writes are one call.
const mostWaiting = 256 << 10

// tunnel is a connection to a port in a sandbox. Its goroutine is pump.
type tunnel struct {
	c    *Command
	says *bufio.Reader
	port uint32

	// verdict is how the other side's direction ended.
	once    sync.Once
	verdict error

	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte
	// half says that no more will be written, closed that the connection is over.
	half, closed bool
	err          error
	// detach is called when it does not matter any more that the pool closes.
	detach func() bool
}

// Starter starts a command in a sandbox, with what Args says, by Pool.Start. Its errors
// are the contract's.
type Starter func(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (*Command, error)

// Dial connects to a port, as sdk.PortDialer wants it, through a command that start
// starts. The connection ends with the pool at the latest; it has CloseWrite, and no
// deadlines. Its errors are the contract's.
func (p *Pool) Dial(ctx context.Context, target *providerv1.PortTarget, start Starter) (net.Conn, error) {
	addresses := []string{target.GetAddress()}
	if target.GetAddress() == "" {
		addresses = []string{"127.0.0.1", "::1"}
	}
	port := strconv.FormatUint(uint64(target.GetPort()), 10)
	c, err := start(ctx, target.GetSandbox(), "tunnel-"+strings.ToLower(rand.Text()), &providerv1.ExecSpec{
		Argv: append([]string{"/bin/sh", "-c", Launcher, "sandbar", "relay", relayScript, port}, addresses...), Stdin: true, Workdir: "/",
	})
	if err != nil {
		return nil, err
	}
	t := &tunnel{c: c, says: bufio.NewReader(c.Stderr()), port: target.GetPort()}
	t.changed = sync.NewCond(&t.mu)
	stop := context.AfterFunc(ctx, func() { c.out[1].fail(ctx.Err()) })
	halt := context.AfterFunc(p.life, func() { c.out[1].fail(errStopped) })
	line, err := t.says.ReadString('\n')
	if !halt() {
		err = draining()
	}
	if !stop() {
		err = ctx.Err()
	}
	switch {
	case err == nil && line == "open\n":
		if p.spawn(t.pump) {
			t.attach(p)
			return t, nil
		}
		err = draining()
	case err == nil && strings.HasPrefix(line, "refused "):
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED,
			"nothing listens on port %s of sandbox %q", port, target.GetSandbox().GetSandboxId()).
			With("port", port).With("sandbox_id", target.GetSandbox().GetSandboxId())
	case err == nil || errors.Is(err, io.EOF):
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "ports cannot be reached in this sandbox: %q", strings.TrimSpace(line)).
			With("missing", "perl with sockets").With("remedy", "use an image that has perl")
	}
	_ = t.Close()
	return nil, upstream.Explain(err, false)
}

// attach closes the tunnel when the pool closes, which waits for pump.
func (t *tunnel) attach(p *Pool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detach = context.AfterFunc(p.life, func() { _ = t.Close() })
}

// pump sends what waits.
func (t *tunnel) pump() {
	for {
		t.mu.Lock()
		for len(t.waiting) == 0 && !t.half && !t.closed {
			t.changed.Wait()
		}
		data, closed := t.waiting, t.closed
		t.waiting = nil
		t.changed.Broadcast()
		t.mu.Unlock()
		var err error
		switch {
		case closed:
			return
		case len(data) > 0:
			_, err = t.c.in.Write(data)
		default:
			_ = t.c.in.Close() // the other side learns of it, or has ended
			return
		}
		if err != nil {
			t.mu.Lock()
			t.err = err
			t.changed.Broadcast()
			t.mu.Unlock()
			return
		}
	}
}

// Read implements net.Conn.
func (t *tunnel) Read(b []byte) (int, error) {
	n, err := t.c.out[0].Read(b)
	if n > 0 || err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("the tunnel broke: %w", err)
	}
	t.once.Do(func() {
		line, err := t.says.ReadString('\n')
		if t.verdict = io.EOF; err != nil || line != "end\n" {
			t.verdict = fmt.Errorf("the connection to port %d was reset", t.port)
		}
	})
	return 0, t.verdict
}

// Write implements net.Conn.
func (t *tunnel) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) >= mostWaiting && t.err == nil && !t.closed {
		t.changed.Wait()
	}
	switch {
	case t.closed || t.half:
		return 0, net.ErrClosed
	case t.err != nil:
		return 0, t.err
	}
	t.waiting = append(t.waiting, b...)
	t.changed.Broadcast()
	return len(b), nil
}

// CloseWrite is the half-close.
func (t *tunnel) CloseWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.half = true
	t.changed.Broadcast()
	return nil
}

// Close implements net.Conn. What carries the connection is ended afterwards.
func (t *tunnel) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if t.detach != nil {
		t.detach()
	}
	t.changed.Broadcast()
	t.c.out[0].fail(net.ErrClosed)
	t.c.out[1].fail(net.ErrClosed)
	t.c.pool.Background(sideCall, func(ctx context.Context) {
		if !t.c.ended() {
			if err := t.c.Signal(ctx, providerv1.ExecSignal_EXEC_SIGNAL_KILL); err != nil && ctx.Err() == nil {
				t.c.pool.log.Warn("what carried a tunnel could not be ended", "exec_id", t.c.order.ExecID, "error", err)
			}
		}
		_ = t.c.Close() // nobody reads it
	})
	return nil
}

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return &net.TCPAddr{Port: int(t.port)} }

// SetDeadline implements net.Conn. There are none: closing ends what waits.
func (t *tunnel) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline implements net.Conn.
func (t *tunnel) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
