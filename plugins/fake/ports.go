package fake

import (
	"context"
	"net"
	"slices"
	"strconv"

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
		for port, l := range b.live.ports {
			out.Ports = append(out.Ports, &providerv1.Port{Port: port, Address: "127.0.0.1", Process: l.program})
		}
		slices.SortFunc(out.GetPorts(), func(a, b *providerv1.Port) int { return int(a.GetPort()) - int(b.GetPort()) })
		return out, nil
	})
}

// DialPort implements sdk.PortDialer.
func (d *Driver) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	conn, err := during(ctx, d, "OpenTunnel", func(c *cloud) (*duplex, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(target.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		if l := b.live.ports[target.GetPort()]; l != nil {
			if conn := l.dial(); conn != nil {
				return conn, nil
			}
		}
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED,
			"nothing listens on port %d of sandbox %q", target.GetPort(), b.Identity.ID).
			With("port", strconv.FormatUint(uint64(target.GetPort()), 10)).With("sandbox_id", b.Identity.ID)
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}
