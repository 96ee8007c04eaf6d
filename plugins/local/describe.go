package local

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ownCapabilities are what the plugin adds to what its shims serve.
var ownCapabilities = []string{
	"compute.cpu", "compute.disk", "compute.memory", "compute.pids", "egress.deny", "exec.reattach", "fork", "fork.disk", "fork.memory",
	"fork.processes", "image.host", "image.oci", "mount.host", "mount.overlay", "mount.volume", "sandbox.hostname",
	"volume",
}

// Describe implements sdk.Driver.
func (d *Driver) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	out := &providerv1.DescribeResponse{
		Name: "local", Vendor: "sandbar", Version: d.opts.Version, Settings: declaredSettings(),
		Limits: d.promises(),
	}
	for _, id := range slices.Concat(shim.Capabilities(), ownCapabilities) {
		out.Capabilities = append(out.Capabilities, &providerv1.Capability{
			Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Stability: providerv1.Stability_STABILITY_STABLE,
		})
	}
	return out, nil
}

// promises are the numbers that the table of each sandbox's own process keeps to,
// which is made as the one here is.
func (d *Driver) promises() map[string]int64 {
	d.mu.RLock()
	retain := d.conf.settings.retain
	d.mu.RUnlock()
	if retain == 0 { // not configured yet
		retain = defaultRetain
	}
	opts := exec.NewTable(exec.Options{Retain: retain}).Options()
	return map[string]int64{
		sdk.LimitRetainedOutput: int64(opts.Retain), sdk.LimitStdinWindow: int64(opts.StdinWindow), sdk.LimitDrain: opts.Drain.Milliseconds(),
	}
}

// StartProcess implements sdk.Driver. It is never called: Driver is an
// sdk.ExecServer.
func (d *Driver) StartProcess(context.Context, *providerv1.SandboxRef, string, *providerv1.ExecSpec) (sdk.Process, error) {
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "commands are started by the sandbox's own process").
		WithEffect(providerv1.Effect_EFFECT_NONE)
}

// DialPort implements sdk.PortDialer.
func (d *Driver) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	client, explain, err := d.inside(target.GetSandbox())
	if err != nil {
		return nil, err
	}
	// The stream is the connection: it lives until Close, not until ctx ends.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := client.OpenTunnel(life)
	if err == nil {
		err = stream.Send(&providerv1.OpenTunnelRequest{Frame: &providerv1.TunnelFrame{
			Frame: &providerv1.TunnelFrame_Open{Open: &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: target}}},
		}})
	}
	if err == nil || isEOF(err) {
		var first *providerv1.OpenTunnelResponse
		if first, err = stream.Recv(); err == nil && first.GetFrame().GetOpened() != nil && stop() {
			return newTunnelConn(stream, cancel), nil
		}
	}
	stop()
	cancel()
	if err == nil {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED, "the tunnel to port %d did not open", target.GetPort())
	}
	return nil, explain(err)
}

type tunnelStream = grpc.BidiStreamingClient[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]
