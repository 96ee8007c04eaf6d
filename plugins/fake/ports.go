package fake

import (
	"context"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ListPorts implements sdk.PortLister.
func (d *Driver) ListPorts(ctx context.Context, req *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	return during(ctx, d, "ListPorts", func(c *cloud) (*providerv1.ListPortsResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		out := &providerv1.ListPortsResponse{}
		for port, p := range b.live.ports {
			out.Ports = append(out.Ports, &providerv1.Port{Port: port, Address: "127.0.0.1", Process: p.spec.GetArgv()[0]})
		}
		slices.SortFunc(out.GetPorts(), func(a, b *providerv1.Port) int { return int(a.GetPort()) - int(b.GetPort()) })
		return out, nil
	})
}

// DialPort implements sdk.PortDialer. The program that listens is "listen", and
// it echoes.
func (d *Driver) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	conn, err := during(ctx, d, "OpenTunnel", func(c *cloud) (*duplex, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(target.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		p := b.live.ports[target.GetPort()]
		if p == nil {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED,
				"nothing listens on port %d of sandbox %q", target.GetPort(), b.Identity.ID).
				With("port", strconv.FormatUint(uint64(target.GetPort()), 10)).With("sandbox_id", b.Identity.ID)
		}
		return p.echo(), nil
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// echo returns the client's end of a connection whose other end sends back what
// it gets, while the process lives.
func (p *process) echo() *duplex {
	toServer, toClient := newBuffer(), newBuffer()
	client := &duplex{in: toClient, out: toServer}
	p.conns.Go(func() {
		defer toClient.closeWrite()
		stop := context.AfterFunc(p.ctx, func() { _ = client.Close() })
		defer stop()
		_, _ = io.Copy(toClient, toServer) // either end closing is the end
	})
	return client
}

// duplex is one end of an in-memory connection with half-close.
type duplex struct{ in, out *buffer }

func (d *duplex) Read(b []byte) (int, error)  { return d.in.Read(b) }
func (d *duplex) Write(b []byte) (int, error) { return d.out.Write(b) }

// CloseWrite ends this side's direction.
func (d *duplex) CloseWrite() error {
	d.out.closeWrite()
	return nil
}

// Close ends both directions at once.
func (d *duplex) Close() error {
	d.in.fail(io.ErrClosedPipe)
	d.out.fail(io.ErrClosedPipe)
	return nil
}

func (d *duplex) LocalAddr() net.Addr              { return memoryAddr{} }
func (d *duplex) RemoteAddr() net.Addr             { return memoryAddr{} }
func (d *duplex) SetDeadline(time.Time) error      { return nil }
func (d *duplex) SetReadDeadline(time.Time) error  { return nil }
func (d *duplex) SetWriteDeadline(time.Time) error { return nil }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
