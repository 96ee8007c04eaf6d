package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// machine is a Host: a runner on this machine, as a sandbox would have one.
type machine struct {
	cmd *exec.Cmd
	// left is closed when the runner has left.
	left chan struct{}
}

func (m *machine) Open(context.Context) (Stream, error) { return nil, ErrGone }

func (m *machine) WriteFile(_ context.Context, name string, content []byte) error {
	return os.WriteFile(name, content, 0o600)
}

func (m *machine) Signal(_ context.Context, group int64, signal string) (bool, error) {
	number := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM}[signal]
	if err := syscall.Kill(-int(group), number); !errors.Is(err, syscall.ESRCH) {
		return err == nil, err
	}
	return false, nil
}

func (m *machine) End(context.Context) error { return m.cmd.Process.Signal(syscall.SIGTERM) }

func (m *machine) Free(ctx context.Context) error {
	select {
	case <-m.left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *machine) Gone(context.Context) bool { return false }

// pipe is a Stream of what a runner prints.
type pipe struct{ from *os.File }

func (p pipe) Next() (bool, string, error) {
	buf := make([]byte, 32<<10)
	n, err := p.from.Read(buf)
	return false, string(buf[:n]), err
}

func (p pipe) Close() { _ = p.from.Close() } // it may have been closed

// here returns a pool, and starts commands on this machine.
func here(t *testing.T) (*Pool, Starter) {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl on this machine, which the runner is written for")
	}
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all that follows
	pool := NewPool(slog.New(slog.DiscardHandler))
	t.Cleanup(pool.Close)
	return pool, func(ctx context.Context, _ *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (*Command, error) {
		from, to, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		m := &machine{cmd: exec.Command("/bin/sh", Args(execID, spec.GetWorkdir(), spec)...), left: make(chan struct{})}
		m.cmd.Env, m.cmd.Stdout = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, to
		err = m.cmd.Start()
		_ = to.Close() // it is the runner's
		if err != nil {
			_ = from.Close()
			return nil, err
		}
		go func() {
			defer close(m.left)
			_ = m.cmd.Wait() // what it printed says how it ended
		}()
		t.Cleanup(func() {
			pool.Close()             // nothing is written after it
			_ = m.cmd.Process.Kill() // most have left
			<-m.left
			names, _ := filepath.Glob(ackFile(execID) + "*")
			for _, name := range names {
				_ = os.Remove(name)
			}
		})
		return pool.Start(ctx, Order{Host: m, First: pipe{from}, ExecID: execID, Workdir: spec.GetWorkdir(), Stdin: spec.GetStdin(), Asked: time.Now()})
	}
}

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
