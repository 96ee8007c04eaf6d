package fake

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// flow is a connection that waits until somebody decides about it. The cloud's
// mutex guards it.
type flow struct {
	proto   *providerv1.Flow
	owner   string
	changed bell
	decided bool
	// conn is the sandbox's end; nil of what was refused.
	conn *socket
}

// flowWatcher is one WatchFlows.
type flowWatcher struct {
	owner string
	next  []*providerv1.Flow
	wake  chan struct{}
}

// captured reports whether what leaves b is asked about. The caller holds mu.
func (b *box) captured() bool {
	return b.Spec.M.GetEgress().GetMode() == providerv1.EgressMode_EGRESS_MODE_CAPTURE
}

// leave makes a connection to somewhere else, if it is let out.
func (p *process) leave(network string, to netip.AddrPort) (*socket, error) {
	c := p.cloud
	c.mu.Lock()
	f := c.announce(p.box, network, to)
	c.mu.Unlock()
	if f == nil {
		return nil, syscall.ENETUNREACH
	}
	taken := false
	defer func() { // also where the process ends while it waits
		c.mu.Lock()
		delete(c.flows, f.proto.GetFlowId())
		conn := f.conn
		c.mu.Unlock()
		if conn != nil && !taken {
			conn.release(p)
		}
	}()
	for {
		c.mu.Lock()
		decided, conn, wake := f.decided, f.conn, f.changed.wait()
		c.mu.Unlock()
		switch {
		case decided && conn == nil:
			return nil, syscall.ECONNREFUSED
		case decided:
			taken = true
			return conn, nil
		}
		if err := p.await(wake); err != nil {
			return nil, err
		}
	}
}

// announce tells who watches of a new flow. The caller holds mu. Nil: nothing
// leaves b, or nobody watches.
func (c *cloud) announce(b *box, network string, to netip.AddrPort) *flow {
	if !b.captured() {
		return nil
	}
	c.seq++
	f := &flow{owner: b.Identity.Owner, proto: &providerv1.Flow{
		FlowId: "flow-" + strconv.FormatUint(c.seq, 10), SandboxId: b.Identity.ID, Protocol: protocol(network, to),
		DestinationAddress: to.Addr().String(), DestinationPort: uint32(to.Port()),
		SourceAddress: "10.0.0.2", SourcePort: uint32(32768 + c.seq%28232),
	}}
	watched := false
	for w := range c.flowWatchers {
		if w.owner != f.owner {
			continue
		}
		watched = true
		w.next = append(w.next, proto.CloneOf(f.proto))
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	if !watched {
		return nil
	}
	c.flows[f.proto.GetFlowId()] = f
	return f
}

func protocol(network string, to netip.AddrPort) providerv1.FlowProtocol {
	switch {
	case to == system.Resolver:
		return providerv1.FlowProtocol_FLOW_PROTOCOL_DNS
	case network == "udp":
		return providerv1.FlowProtocol_FLOW_PROTOCOL_UDP
	default:
		return providerv1.FlowProtocol_FLOW_PROTOCOL_TCP
	}
}

// decide ends the waiting of a flow. The caller holds mu.
func (f *flow) decide(conn *socket) {
	f.decided, f.conn = true, conn
	f.changed.ring()
}

// refuseFlows refuses what waits and is chosen. The caller holds mu.
func (c *cloud) refuseFlows(chosen func(*flow) bool) {
	for _, f := range c.flows {
		if !f.decided && chosen(f) {
			f.decide(nil)
		}
	}
}

// WatchFlows implements sdk.FlowSource. With the last who watches goes what waits:
// nobody would decide about it.
func (d *Driver) WatchFlows(ctx context.Context, owner string, send func(*providerv1.Flow) error) error {
	c := d.vendor()
	w := &flowWatcher{owner: owner, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	c.flowWatchers[w] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.flowWatchers, w)
		for other := range c.flowWatchers {
			if other.owner == owner {
				return
			}
		}
		c.refuseFlows(func(f *flow) bool { return f.owner == owner })
	}()
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.mu.Lock()
		flows := w.next
		w.next = nil
		c.mu.Unlock()
		for _, f := range flows {
			if err := send(f); err != nil {
				return err
			}
		}
	}
}

// AcceptFlow implements sdk.FlowSource.
func (d *Driver) AcceptFlow(_ context.Context, flowID string) (net.Conn, error) {
	c := d.vendor()
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flows[flowID]
	if f == nil || f.decided {
		return nil, fault.Field("frame.open.flow_id", flowID, "want a flow that was announced and still waits")
	}
	in, out := newPipe(1), newPipe(1)
	f.decide(&socket{in: in, out: out})
	return &duplex{in: readEnd(out), out: writeEnd(in)}, nil
}

// RefuseFlow implements sdk.FlowSource.
func (d *Driver) RefuseFlow(_ context.Context, flowID string) error {
	c := d.vendor()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuseFlows(func(f *flow) bool { return f.proto.GetFlowId() == flowID })
	return nil
}

// UpdateEgress implements sdk.EgressUpdater.
func (d *Driver) UpdateEgress(ctx context.Context, req *providerv1.UpdateEgressRequest) (*providerv1.UpdateEgressResponse, error) {
	return during(ctx, d, "UpdateEgress", func(c *cloud) (*providerv1.UpdateEgressResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.find(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		before := b.Spec.M
		b.Spec.M = proto.CloneOf(before)
		b.Spec.M.Egress = proto.CloneOf(req.GetEgress())
		if err := c.save(b); err != nil {
			b.Spec.M = before
			return nil, err
		}
		if !b.captured() {
			c.refuseFlows(func(f *flow) bool { return f.proto.GetSandboxId() == b.Identity.ID })
		}
		c.notify(b)
		return &providerv1.UpdateEgressResponse{Strength: providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED}, nil
	})
}
