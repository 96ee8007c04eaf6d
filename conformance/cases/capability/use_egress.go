package capability

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// egressUses are the uses of what decides about what leaves.
func egressUses() map[string]use {
	return map[string]use{
		"egress.deny": egress(&providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_DENY}, nil),
		"egress.open": egress(&providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_OPEN}, nil),
		"egress.native": egress(&providerv1.Egress{
			Mode: providerv1.EgressMode_EGRESS_MODE_NATIVE, Rules: []*providerv1.EgressRule{{Allow: true, Host: "example.com"}},
		}, nil),
		"egress.capture": egress(&providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_CAPTURE}, watchFlows),
		"egress.update":  {run: updateEgress, kinds: own},
	}
}

func egress(e *providerv1.Egress, further func(*engine.T)) use {
	u := use{run: func(t *engine.T) {
		box := created(t, func(s *providerv1.SandboxSpec) { s.Egress = e })
		if box.Sandbox.GetEgressStrength() == providerv1.EgressStrength_EGRESS_STRENGTH_UNSPECIFIED {
			t.Errorf("the answer does not say how strong the control of egress is: want egress_strength")
		}
		if further != nil {
			further(t)
		}
	}}
	if further != nil {
		u.kinds = own
	}
	return u
}

// watchFlows sees that flows can be watched: the stream goes on until its reader
// has enough.
func watchFlows(t *engine.T) {
	const enough = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer time.AfterFunc(enough, cancel).Stop() // a deadline would end it in the plugin too, and sooner at times
	stream, err := t.Client().WatchFlows(ctx, &providerv1.WatchFlowsRequest{Owner: t.Owner()})
	for err == nil {
		_, err = stream.Recv()
	}
	if f := fault.From(err); ctx.Err() == nil {
		t.Errorf("WatchFlows ended with %s %q: want it to go on", fault.Name(f.Reason), f.Message)
	}
}

func updateEgress(t *engine.T) {
	box := stage.Create(t)
	for _, to := range []struct {
		capability string
		mode       providerv1.EgressMode
	}{
		{"egress.deny", providerv1.EgressMode_EGRESS_MODE_DENY},
		{"egress.capture", providerv1.EgressMode_EGRESS_MODE_CAPTURE},
		{"egress.native", providerv1.EgressMode_EGRESS_MODE_NATIVE},
		{"egress.open", providerv1.EgressMode_EGRESS_MODE_OPEN},
	} {
		if !t.Has(to.capability) {
			continue
		}
		resp, err := box.Client().UpdateEgress(t.Context(), &providerv1.UpdateEgressRequest{
			Sandbox: box.Ref, Egress: &providerv1.Egress{Mode: to.mode},
		})
		stage.OK(t, "UpdateEgress to "+to.mode.String(), err)
		if resp.GetStrength() == providerv1.EgressStrength_EGRESS_STRENGTH_UNSPECIFIED {
			t.Errorf("UpdateEgress to %s does not say how strong the control is now: want strength", to.mode)
		}
	}
}
