package mutant

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Without is the reference provider without a capability and all that need it.
// The SDK refuses a driver that implements what it does not declare, so that the
// methods have to go as well: a method of another signature hides each.
func Without(d *fake.Driver, id string) sdk.Driver {
	less := &undeclared{Driver: d, ids: []string{id}}
	for _, c := range guard.Registry() {
		if slices.Contains(c.Needs, id) {
			less.ids = append(less.ids, c.ID)
		}
	}
	switch id {
	case "archive.download":
		return struct {
			*undeclared
			noDownload
		}{undeclared: less}
	case "archive.upload":
		return struct {
			*undeclared
			noUpload
		}{undeclared: less}
	case "fork":
		return struct {
			*undeclared
			noFork
		}{undeclared: less}
	case "fs.diff":
		return struct {
			*undeclared
			noDiff
		}{undeclared: less}
	case "fs.read":
		return struct {
			*undeclared
			noRead
		}{undeclared: less}
	case "fs.write":
		return struct {
			*undeclared
			noWrite
		}{undeclared: less}
	case "lifetime.extend", "lifetime.native":
		return struct {
			*undeclared
			noExtend
		}{undeclared: less}
	}
	return withoutMore(less, id)
}

func withoutMore(less *undeclared, id string) sdk.Driver {
	switch id {
	case "egress.capture":
		return struct {
			*undeclared
			noFlows
		}{undeclared: less}
	case "egress.update":
		return struct {
			*undeclared
			noUpdate
		}{undeclared: less}
	case "pause":
		return struct {
			*undeclared
			noPause
		}{undeclared: less}
	case "port.list":
		return struct {
			*undeclared
			noPorts
		}{undeclared: less}
	case "port.tunnel":
		return struct {
			*undeclared
			noTunnel
		}{undeclared: less}
	case "snapshot":
		return struct {
			*undeclared
			noSnapshot
		}{undeclared: less}
	case "usage":
		return struct {
			*undeclared
			noUsage
		}{undeclared: less}
	case "volume":
		return struct {
			*undeclared
			noVolume
		}{undeclared: less}
	case "watch":
		return struct {
			*undeclared
			noWatch
		}{undeclared: less}
	}
	return less
}

// undeclared leaves ids out of what is declared.
type undeclared struct {
	*fake.Driver
	ids []string
}

func (d *undeclared) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	if out != nil {
		out.Capabilities = slices.DeleteFunc(out.GetCapabilities(), func(c *providerv1.Capability) bool { return slices.Contains(d.ids, c.GetId()) })
	}
	return out, err
}

// core is the least that is of use: what every provider has to implement, and
// nothing that leaves.
type core struct {
	sdk.Driver // the interface, so that nothing optional is left
}

// CoreOnly is the reference provider with nothing optional.
func CoreOnly(d *fake.Driver) sdk.Driver { return &core{d} }

func (d *core) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	if out != nil {
		out.Capabilities = sdk.Supported("egress.deny")
	}
	return out, err
}

type (
	noDownload struct{}
	noUpload   struct{}
	noFork     struct{}
	noDiff     struct{}
	noRead     struct{}
	noWrite    struct{}
	noExtend   struct{}
	noFlows    struct{}
	noPause    struct{}
	noPorts    struct{}
	noTunnel   struct{}
	noUpdate   struct{}
	noSnapshot struct{}
	noUsage    struct{}
	noVolume   struct{}
	noWatch    struct{}
)

func (noDownload) DownloadArchive() {}
func (noUpload) UploadArchive()     {}
func (noFork) ForkSandbox()         {}
func (noDiff) DiffFiles()           {}
func (noRead) ReadFile()            {}
func (noWrite) WriteFile()          {}
func (noExtend) ExtendLifetime()    {}
func (noFlows) WatchFlows()         {}
func (noPause) PauseSandbox()       {}
func (noPorts) ListPorts()          {}
func (noTunnel) DialPort()          {}
func (noUpdate) UpdateEgress()      {}
func (noSnapshot) CreateSnapshot()  {}
func (noUsage) GetUsage()           {}
func (noVolume) CreateVolume()      {}
func (noWatch) WatchSandboxes()     {}

// Promising is the reference provider that declares one more capability, with
// those it needs. What the capability is about is acted, so that only somebody who
// looks closely finds out.
func Promising(d *fake.Driver, id string) sdk.Driver {
	more := &promising{Driver: d, id: id}
	switch id {
	case "port.url":
		return &promisingURL{more}
	case "egress.update":
		return &promisingUpdate{more}
	case "egress.capture":
		return &promisingFlows{more}
	case "exec.reattach":
		return &promisingReattach{more, exec.NewTable(exec.Options{})}
	}
	return more
}

type promising struct {
	*fake.Driver
	id string
}

func (d *promising) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	if out != nil && !slices.ContainsFunc(out.GetCapabilities(), func(c *providerv1.Capability) bool { return c.GetId() == d.id }) {
		out.Capabilities = append(out.Capabilities, sdk.Supported(d.id)...)
	}
	return out, err
}

type promisingURL struct{ *promising }

func (d *promisingURL) GetPortURL(context.Context, *providerv1.GetPortURLRequest) (*providerv1.GetPortURLResponse, error) {
	return &providerv1.GetPortURLResponse{Url: "https://8080-sandbox.example/"}, nil
}

type promisingUpdate struct{ *promising }

func (d *promisingUpdate) UpdateEgress(context.Context, *providerv1.UpdateEgressRequest) (*providerv1.UpdateEgressResponse, error) {
	return &providerv1.UpdateEgressResponse{Strength: providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED}, nil
}

type promisingFlows struct{ *promising }

func (d *promisingFlows) WatchFlows(ctx context.Context, _ string, _ func(*providerv1.Flow) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (d *promisingFlows) AcceptFlow(context.Context, string) (net.Conn, error) {
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED, "there are no flows")
}

func (d *promisingFlows) RefuseFlow(context.Context, string) error { return nil }

// promisingReattach keeps commands in the plugin's memory, as the SDK does.
type promisingReattach struct {
	*promising
	table *exec.Table
}

// Close ends what the table runs.
func (d *promisingReattach) Close() {
	d.Driver.Close()
	d.table.Close()
}

func (d *promisingReattach) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	launch := func(ctx context.Context) (sdk.Process, error) {
		return d.StartProcess(ctx, req.GetSandbox(), req.GetExecId(), req.GetSpec())
	}
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	e, err := d.table.Start(ctx, key, req.GetRequestDigest(), req.GetSpec(), launch)
	if err != nil {
		return nil, err
	}
	return &providerv1.StartExecResponse{Exec: e}, nil
}

func (d *promisingReattach) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	return d.table.Attach(stream, func(*providerv1.ExecInput) error { return nil })
}

func (d *promisingReattach) GetExec(_ context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	e, err := d.table.Get(exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()})
	if err != nil {
		return nil, err
	}
	return &providerv1.GetExecResponse{Exec: e}, nil
}

func (d *promisingReattach) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	if err := d.table.Signal(ctx, key, req.GetSignal()); err != nil {
		return nil, err
	}
	return &providerv1.SignalExecResponse{}, nil
}

func (d *promisingReattach) ListExecs(_ context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return &providerv1.ListExecsResponse{Execs: d.table.List(req.GetSandbox().GetSandboxId())}, nil
}
