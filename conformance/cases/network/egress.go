package network

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// egress are the cases about what leaves a sandbox.
func egress() []engine.Case {
	return []engine.Case{
		{
			ID: "egress/closed", Title: "Without an egress policy, and with one that denies, no packet and no query for a name leaves.",
			Profile: engine.Network, Requirements: []string{"REQ-EGR-001"}, Needs: []string{"egress.deny"}, Cost: 20, Budget: 2 * time.Minute,
			Run: closed,
		},
	}
}

// closed tries to reach this machine, and what the operator gave as input outside,
// a HOST:PORT that everybody reaches: a sandbox far away knows nothing of this
// machine.
func closed(t *engine.T) {
	outside := t.InputOr("outside", "")
	host, port, err := net.SplitHostPort(outside)
	number, errPort := strconv.ParseUint(port, 10, 16)
	if outside != "" && (err != nil || errPort != nil || number == 0) {
		t.Broken("input outside is %q: want HOST:PORT of a server that everybody reaches by TCP", outside)
	}
	lookout := stage.Watch(t)
	for _, policy := range []*providerv1.Egress{nil, {Mode: providerv1.EgressMode_EGRESS_MODE_DENY}} {
		what := "without an egress policy"
		if policy != nil {
			what = "with egress " + policy.GetMode().String()
		}
		box := stage.Create(t, func(req *providerv1.CreateSandboxRequest) { req.Spec.Egress = policy })
		sendingWorks(t, box)
		leaves(t, box, lookout, what)
		if outside != "" && box.SendTo("tcp", host, uint16(number), "hello") {
			t.Errorf("%s a command connected to %s: want nothing to leave", what, outside)
		}
	}
}

// sendingWorks sees that what the guest sends with can send.
func sendingWorks(t *engine.T, box *stage.Box) {
	box.Start(stage.Argv("sh", "-c", stage.EchoScript, "echo", strconv.Itoa(port)))
	inside := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	stage.Eventually(t, stage.Patience(t), "a server inside to be reached from inside", func(ctx) bool {
		return box.Send("tcp", inside, "hello")
	})
}

func leaves(t *engine.T, box *stage.Box, lookout *stage.Lookout, what string) {
	said := map[string]string{}
	for _, to := range lookout.Addresses {
		for _, how := range []string{"tcp", "udp"} {
			text := stage.NewID(how)
			said[text] = strings.ToUpper(how) + " to " + to.String()
			box.Send(how, to, text)
		}
	}
	const late = 300 * time.Millisecond // what goes through a proxy comes after the command has ended
	stage.Pause(t, late)
	for text, way := range said {
		if lookout.Saw(text) {
			t.Errorf("%s a command reached this machine by %s: want nothing to leave", what, way)
		}
	}
}
