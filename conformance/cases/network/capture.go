package network

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// captures are the cases about what is asked before it leaves. Nothing is ever
// carried further than to the case.
func captures() []engine.Case {
	capture := []string{"egress.capture"}
	return []engine.Case{
		{
			ID: "egress/captured", Title: "A connection and a datagram are announced as they are, and are carried or refused as the broker decides.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-002"}, Needs: capture, Kinds: own, Cost: 10,
			Run: captured,
		},
		{
			ID: "egress/names", Title: "A query for a name is announced and is answered by the broker.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-002"}, Needs: capture, Kinds: own, Cost: 10,
			Run: names,
		},
		{
			ID: "egress/held", Title: "What is announced waits for the decision, and nothing leaves while nobody listens.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-002"}, Needs: capture, Kinds: own, Cost: 10,
			Run: held,
		},
		{
			ID: "egress/own-flows", Title: "Each flow names the sandbox it comes from, and only its owner hears of it.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-002"}, Needs: capture, Kinds: own, Cost: 10,
			Run: ownFlows,
		},
		{
			ID: "egress/updated", Title: "A new policy applies at once, also to what waits, and its strength is told.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-003"}, Needs: []string{"egress.capture", "egress.deny", "egress.update"}, Kinds: own, Cost: 10,
			Run: updated,
		},
	}
}

// elsewhere is an address that nobody has (RFC 5737).
var elsewhere = netip.MustParseAddr("192.0.2.10")

const (
	service    = 8080
	aMoment    = 500 * time.Millisecond
	capturing  = providerv1.EgressMode_EGRESS_MODE_CAPTURE
	denying    = providerv1.EgressMode_EGRESS_MODE_DENY
	overTCP    = providerv1.FlowProtocol_FLOW_PROTOCOL_TCP
	overUDP    = providerv1.FlowProtocol_FLOW_PROTOCOL_UDP
	overDNS    = providerv1.FlowProtocol_FLOW_PROTOCOL_DNS
	unassigned = providerv1.EgressStrength_EGRESS_STRENGTH_UNSPECIFIED
)

func withEgress(mode providerv1.EgressMode) func(*providerv1.CreateSandboxRequest) {
	return func(req *providerv1.CreateSandboxRequest) { req.Spec.Egress = &providerv1.Egress{Mode: mode} }
}

// attempt starts a command that sends, and waits for its flow. That somebody listens
// is not answered, so that until the first flow what nobody heard is sent again.
func attempt(t *engine.T, flows *stage.Flows, box *stage.Box, protocol providerv1.FlowProtocol, start func() *stage.Command) (*stage.Command, *providerv1.Flow) {
	own := func(f *providerv1.Flow) bool {
		return f.GetProtocol() == protocol && f.GetSandboxId() == box.Ref.GetSandboxId()
	}
	const moment = 100 * time.Millisecond
	for deadline := time.Now().Add(stage.Patience(t)); ; {
		cmd := start()
		for cmd.Get().GetState() != providerv1.ExecState_EXEC_STATE_EXITED && time.Now().Before(deadline) {
			if f := flows.Next(moment, own); f != nil {
				return cmd, f
			}
		}
		if f := flows.Next(moment, own); f != nil {
			return cmd, f
		}
		if flows.Heard() || time.Now().After(deadline) {
			if cmd.Get().GetState() == providerv1.ExecState_EXEC_STATE_EXITED {
				stage.Sent(t, cmd.Wait()) // the guest may have nothing to send with
			}
			t.Fatalf("no flow %s of sandbox %s was announced within %s; others were %v: want one", protocol, box.Ref.GetSandboxId(), stage.Patience(t), flows.Rest())
		}
	}
}

func connecting(t *engine.T, flows *stage.Flows, box *stage.Box, text string) (*stage.Command, *providerv1.Flow) {
	return attempt(t, flows, box, overTCP, func() *stage.Command { return box.StartSend("tcp", elsewhere.String(), service, text) })
}

func isTo(t *engine.T, f *providerv1.Flow) {
	if f.GetDestinationAddress() != elsewhere.String() || f.GetDestinationPort() != service {
		t.Errorf("a flow to %s port %d is announced to %q port %d", elsewhere, service, f.GetDestinationAddress(), f.GetDestinationPort())
	}
	if _, err := netip.ParseAddr(f.GetSourceAddress()); err != nil || f.GetSourcePort() == 0 {
		t.Errorf("a flow comes from %q port %d: want the address and port it has inside", f.GetSourceAddress(), f.GetSourcePort())
	}
}

func captured(t *engine.T) {
	flows := stage.WatchFlows(t, t.Owner())
	box := stage.Create(t, withEgress(capturing))

	t.Step("a connection that is carried")
	cmd, f := connecting(t, flows, box, "from-inside")
	isTo(t, f)
	c := stage.Carry(t, f)
	c.Expect([]byte("from-inside"))
	c.ExpectHalfClose()
	c.Send([]byte("from-outside"))
	c.HalfClose()
	cmd.Wait().Code(0).Out("from-outside")

	t.Step("a connection that is refused")
	cmd, f = connecting(t, flows, box, "from-inside")
	stage.Refuse(t, f)
	if stage.Sent(t, cmd.Wait()) {
		t.Errorf("a connection that the broker refused was made inside: want an error there")
	}

	t.Step("a datagram")
	cmd, f = attempt(t, flows, box, overUDP, func() *stage.Command {
		return box.StartSend("udp", elsewhere.String(), service, "a-datagram")
	})
	isTo(t, f)
	stage.Carry(t, f).Expect([]byte("a-datagram"))
	cmd.Wait().Code(0)
}

func names(t *engine.T) {
	flows := stage.WatchFlows(t, t.Owner())
	box := stage.Create(t, withEgress(capturing))
	const name, address = "suite.example.com", "192.0.2.7"
	cmd, f := attempt(t, flows, box, overDNS, func() *stage.Command { return box.StartLookup(name) })
	c := stage.Carry(t, f)
	var query dnsmessage.Message
	if err := query.Unpack(c.Take()); err != nil || len(query.Questions) != 1 {
		t.Fatalf("the flow of a query carries no DNS message with one question, but %v, %v", query.Questions, err)
	}
	if got := strings.TrimSuffix(query.Questions[0].Name.String(), "."); !strings.EqualFold(got, name) {
		t.Errorf("the query is for %q: want %q", got, name)
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionDesired: query.RecursionDesired, RecursionAvailable: true},
		Questions: query.Questions,
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: query.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
		}},
	}
	packet, err := answer.Pack()
	if err != nil {
		t.Broken("an answer: %v", err)
	}
	c.Send(packet)
	cmd.Wait().Code(0).Out(address + "\n")
}

func held(t *engine.T) {
	box := stage.Create(t, withEgress(capturing))
	t.Step("while nobody listens")
	if stage.Sent(t, box.StartSend("tcp", elsewhere.String(), service, "hello").Wait()) {
		t.Errorf("a connection was made while nobody listened for flows: want nothing to leave")
	}
	t.Step("while nothing is decided")
	flows := stage.WatchFlows(t, t.Owner())
	cmd, f := connecting(t, flows, box, "hello")
	stage.Pause(t, aMoment)
	if e := cmd.Get(); e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Fatalf("before the broker decided about its connection the command is %s with %s: want it to wait", e.GetState(), stage.ExitText(e.GetExit()))
	}
	c := stage.Carry(t, f)
	c.Expect([]byte("hello"))
	c.HalfClose()
	cmd.Wait().Code(0)
}

func ownFlows(t *engine.T) {
	flows := stage.WatchFlows(t, t.Owner())
	others := stage.WatchFlows(t, t.Owner()+"/other")
	one, two := stage.Create(t, withEgress(capturing)), stage.Create(t, withEgress(capturing))
	for _, box := range []*stage.Box{two, one} {
		text := stage.NewID("from")
		cmd, f := connecting(t, flows, box, text)
		c := stage.Carry(t, f)
		c.Expect([]byte(text))
		c.HalfClose()
		cmd.Wait().Code(0)
	}
	if heard := others.Rest(); len(heard) > 0 {
		t.Errorf("flows of one owner's sandboxes were announced to another: %v", heard)
	}
}

func updated(t *engine.T) {
	flows := stage.WatchFlows(t, t.Owner())
	box := stage.Create(t, withEgress(denying))
	closed := func(when string) {
		if stage.Sent(t, box.StartSend("tcp", elsewhere.String(), service, "hello").Wait()) {
			t.Errorf("%s a connection was made: want nothing to leave", when)
		}
		if heard := flows.Rest(); len(heard) > 0 {
			t.Errorf("%s flows were announced: %v", when, heard)
		}
	}
	set := func(mode providerv1.EgressMode) {
		t.Step("update to %s", mode)
		resp, err := t.Client().UpdateEgress(t.Context(), &providerv1.UpdateEgressRequest{Sandbox: box.Ref, Egress: &providerv1.Egress{Mode: mode}})
		stage.OK(t, "UpdateEgress to "+mode.String(), err)
		if got, now := resp.GetStrength(), box.Get().GetEgressStrength(); got == unassigned || got != now {
			t.Errorf("UpdateEgress to %s answers strength %s, and the sandbox has %s: want one answer", mode, got, now)
		}
	}
	closed("with DENY")
	set(capturing)
	cmd, f := connecting(t, flows, box, "hello")
	c := stage.Carry(t, f)
	c.Expect([]byte("hello"))
	c.HalfClose()
	cmd.Wait().Code(0)
	cmd, _ = connecting(t, flows, box, "hello")
	set(denying)
	if stage.Sent(t, cmd.Wait()) {
		t.Errorf("a connection that waited when the policy became DENY was made: want it refused")
	}
	closed("after the update to DENY")
}
