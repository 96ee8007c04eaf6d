package capability

import (
	"errors"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// otherUses are the uses of ports, usage, watching and volumes.
func otherUses() map[string]use {
	return map[string]use{
		"port.list":   {run: listPorts},
		"port.tunnel": {run: tunnel},
		"port.url":    {run: portURL, kinds: own}, // a broker's callers have tunnels and previews instead
		"usage": {run: func(t *engine.T) {
			box := stage.Create(t)
			resp, err := box.Client().GetUsage(t.Context(), &providerv1.GetUsageRequest{Sandbox: box.Ref})
			stage.OK(t, "GetUsage", err)
			if resp.GetUsage() == nil {
				t.Errorf("GetUsage answered nothing: want usage")
			}
		}},
		"volume": {run: volumes},
		"watch":  {run: watch, kinds: own},
	}
}

func listPorts(t *engine.T) {
	box := stage.Create(t)
	resp, err := box.Client().ListPorts(t.Context(), &providerv1.ListPortsRequest{Sandbox: box.Ref})
	stage.OK(t, "ListPorts", err)
	if !slices.IsSortedFunc(resp.GetPorts(), func(a, b *providerv1.Port) int { return int(a.GetPort()) - int(b.GetPort()) }) {
		t.Errorf("the ports are not in ascending order: %v", resp.GetPorts())
	}
}

// tunnel asks for a port that nothing listens on: only what carries tunnels can
// tell.
func tunnel(t *engine.T) {
	box := stage.Create(t)
	stream, err := box.Client().OpenTunnel(t.Context())
	stage.OK(t, "OpenTunnel", err)
	err = stream.Send(&providerv1.OpenTunnelRequest{Frame: &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{
		Open: &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: box.Ref, Port: 9}}},
	}}})
	if err == nil || errors.Is(err, io.EOF) {
		_, err = stream.Recv()
	}
	_ = stage.Refused(t, "OpenTunnel to a port that nothing listens on", err, providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED)
}

func portURL(t *engine.T) {
	box := stage.Create(t, func(req *providerv1.CreateSandboxRequest) {
		if t.Has("port.declare") {
			req.Spec.Ports = []uint32{8080}
		}
	})
	resp, err := box.Client().GetPortURL(t.Context(), &providerv1.GetPortURLRequest{Sandbox: box.Ref, Port: 8080})
	stage.OK(t, "GetPortURL", err)
	u, err := url.Parse(resp.GetUrl())
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		t.Errorf("GetPortURL answered %q: want an address such as https://host/", resp.GetUrl())
	}
	if at := resp.GetExpiresAt(); at != nil && time.Until(at.AsTime()) < 50*time.Minute {
		t.Errorf("the address expires at %s: want it to work for an hour at least, which is the default", at.AsTime())
	}
}

func volumes(t *engine.T) {
	name := newVolume(t)
	has := func() bool {
		list, err := t.Client().ListVolumes(t.Context(), &providerv1.ListVolumesRequest{Owner: t.Owner()})
		stage.OK(t, "ListVolumes", err)
		return slices.ContainsFunc(list.GetVolumes(), func(v *providerv1.Volume) bool { return v.GetName() == name })
	}
	if !has() {
		t.Errorf("ListVolumes does not have the volume that was made")
	}
	_, err := t.Client().DeleteVolume(t.Context(), &providerv1.DeleteVolumeRequest{Owner: t.Owner(), Name: name})
	stage.OK(t, "DeleteVolume", err)
	if has() {
		t.Errorf("ListVolumes still has a volume that was deleted")
	}
}

func watch(t *engine.T) {
	stream, err := t.Client().WatchSandboxes(t.Context(), &providerv1.WatchSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "WatchSandboxes", err)
	event, err := stream.Recv()
	if err != nil {
		t.Fatalf("WatchSandboxes ended with %s: want synced", fault.From(err).Message)
	}
	if event.GetSynced() == nil {
		t.Errorf("the first event for an owner without sandboxes is %v: want synced", event)
	}
}
