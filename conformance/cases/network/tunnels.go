package network

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var tunnel = []string{"port.tunnel"}

const port = 8042

// ctx is what stage.Eventually gives to a look.
type ctx = context.Context

// tunnels are the cases about what a tunnel carries.
func tunnels() []engine.Case {
	return []engine.Case{
		{
			ID: "port/roundtrip", Title: "A tunnel carries bytes of any value both ways, whole and in order.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001"}, Needs: tunnel, Cost: 10,
			Run: roundtrip,
		},
		{
			ID: "port/half-close", Title: "After a half-close the answer still arrives, and then the other side's half-close.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001"}, Needs: tunnel, Cost: 10,
			Run: halfClose,
		},
		{
			ID: "port/concurrent", Title: "Sixteen tunnels to one port do not mix their bytes.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001"}, Needs: tunnel, Cost: 10,
			Run: concurrent,
		},
		{
			ID: "port/bulk", Title: "Much data in both directions at once arrives whole.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001"}, Needs: tunnel, Cost: 20, Budget: 2 * time.Minute,
			Run: bulk,
		},
		{
			ID: "port/slow-reader", Title: "A tunnel that nobody reads from does not slow another.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001"}, Needs: tunnel, Cost: 10,
			Run: slowReader,
		},
	}
}

func roundtrip(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	c := box.Tunnel(port)
	for _, size := range []int{1, 256, 32 << 10, 32<<10 + 1, 300_000} {
		data := stage.Random(t, size)
		c.Send(data)
		c.Expect(data)
	}
}

func halfClose(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	c := box.Tunnel(port)
	data := stage.Random(t, 200_000)
	c.Send(data)
	c.HalfClose()
	c.Expect(data)
	c.ExpectHalfClose()
}

func concurrent(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	const many = 16
	var conns []*stage.Tunnel
	var sent [][]byte
	for range many {
		conns, sent = append(conns, box.Tunnel(port)), append(sent, stage.Random(t, 50_000))
	}
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() { c.Send(sent[i]) })
	}
	for i, c := range conns {
		c.Expect(sent[i])
	}
	all.Wait()
}

func bulk(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	c := box.Tunnel(port)
	data := bytes.Repeat(stage.Random(t, 1<<20), stage.BulkMiB(t))
	start := time.Now()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.Send(data)
	}()
	c.Expect(data)
	<-sent
	t.Measure("port.bulk", time.Since(start))
}

// slowReader fills a tunnel whose answers wait in the provider, and talks through
// another.
func slowReader(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	box.Unread(port)
	c := box.Tunnel(port)
	data := stage.Random(t, 100_000)
	c.Send(data)
	c.Expect(data)
}

// ends are the cases about connections that cannot be, or end.
func ends() []engine.Case {
	return []engine.Case{
		{
			ID: "port/refused", Title: "A port that nothing listens on is refused, and named.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-002"}, Needs: tunnel, Cost: 5,
			Run: refused,
		},
		{
			ID: "port/own-sandbox", Title: "A tunnel reaches its own sandbox and no other.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-003"}, Needs: tunnel, Cost: 10,
			Run: ownSandbox,
		},
		{
			ID: "port/listener-ends", Title: "When the listener dies its tunnels end, and the port is refused again.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001", "REQ-PORT-002"}, Needs: append([]string{"exec.signal"}, tunnel...), Cost: 10,
			Run: listenerEnds,
		},
		{
			ID: "port/sandbox-ends", Title: "When the sandbox is deleted its tunnels end.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-001", "REQ-DEL-001"}, Needs: tunnel, Cost: 10,
			Run: sandboxEnds,
		},
		{
			ID: "port/listed", Title: "A port is listed while something listens on it.",
			Profile: engine.Ports, Requirements: []string{"REQ-PORT-004"}, Needs: append([]string{"port.list", "exec.signal"}, tunnel...), Cost: 10,
			Run: listed,
		},
	}
}

func isRefused(t *engine.T, box *stage.Box, what string) {
	_, err := box.TryTunnel(port)
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED)
	stage.Names(t, what, f, "port", "8042")
}

func refused(t *engine.T) {
	isRefused(t, stage.Create(t), "OpenTunnel to a port that nothing listens on")
}

func ownSandbox(t *engine.T) {
	one, two := stage.Create(t), stage.Create(t)
	one.Echo(port)
	isRefused(t, two, "OpenTunnel to a port that only another sandbox listens on")
}

func listenerEnds(t *engine.T) {
	box := stage.Create(t)
	server := box.Echo(port)
	c := box.Tunnel(port)
	c.Send([]byte("there?"))
	c.Expect([]byte("there?"))
	server.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	c.ExpectEnd("its listener was killed")
	stage.Eventually(t, stage.Patience(t), "the port to be free", func(ctx) bool {
		again, err := box.TryTunnel(port)
		if err == nil {
			again.Close()
		}
		return err != nil
	})
	isRefused(t, box, "OpenTunnel after the listener was killed")
}

func sandboxEnds(t *engine.T) {
	box := stage.Create(t)
	box.Echo(port)
	c := box.Tunnel(port)
	c.Send([]byte("there?"))
	c.Expect([]byte("there?"))
	box.Delete()
	c.ExpectEnd("its sandbox was deleted")
}

func listed(t *engine.T) {
	box := stage.Create(t)
	has := func() bool {
		resp, err := t.Client().ListPorts(t.Context(), &providerv1.ListPortsRequest{Sandbox: box.Ref})
		stage.OK(t, "ListPorts", err)
		before := uint32(0)
		found := false
		for _, p := range resp.GetPorts() {
			if p.GetPort() <= before && p.GetAddress() == "" {
				t.Errorf("ListPorts tells %v: want them ascending", resp.GetPorts())
			}
			before = p.GetPort()
			found = found || p.GetPort() == port
		}
		return found
	}
	if has() {
		t.Errorf("a port is listed before anything listens on it")
	}
	server := box.Echo(port)
	if !has() {
		t.Errorf("a port that something listens on is not listed")
	}
	server.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	stage.Eventually(t, stage.Patience(t), "the port not to be listed any more", func(ctx) bool { return !has() })
}
