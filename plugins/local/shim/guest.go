package shim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// guest serves the part of the contract that acts inside one running sandbox, as
// an sdk.Driver. Calls about other sandboxes, or about a sandbox that does not
// run, are the plugin's and never come here.
type guest struct {
	elsewhere
	id   string
	sb   *runsc.Sandbox
	spec *providerv1.SandboxSpec
	root Root
	life *life
	// meter counts what the sandbox uses.
	meter meter
	// saving serialises checkpoints: a call that is repeated while the first one is
	// still under way, as after the plugin's death, waits for its outcome.
	saving sync.Mutex
	// execs is the table of the commands, which a checkpoint brings to a rest.
	execs *exec.Table
}

// Capabilities are what the shim serves itself; the plugin declares them, and
// more.
func Capabilities() []string {
	return []string{
		"archive.download", "archive.upload", "exec.list", "exec.pty", "exec.signal", "exec.stdin",
		"exec.user", "fs.diff", "fs.owner", "fs.read", "fs.write", "fs.write.partial", "lifetime.extend", "lifetime.native", "pause", "pause.disk", "pause.memory",
		"pause.processes", "port.list", "port.tunnel", "snapshot", "snapshot.disk", "snapshot.memory", "snapshot.processes", "usage",
	}
}

// Describe implements sdk.Driver.
func (g *guest) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	d := &providerv1.DescribeResponse{Name: "local", Vendor: "sandbar", Version: "0"}
	for _, id := range Capabilities() {
		d.Capabilities = append(d.Capabilities, &providerv1.Capability{
			Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Stability: providerv1.Stability_STABILITY_STABLE,
		})
	}
	return d, nil
}

// GetSandbox implements sdk.Driver: the record, which only this process writes
// while it lives.
func (g *guest) GetSandbox(context.Context, *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	return g.life.sandbox(), nil
}

// DeleteSandbox implements sdk.Driver: it ends the guest, and then the shim. The
// plugin removes the folder.
func (g *guest) DeleteSandbox(context.Context, *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	g.life.end(endDeleted)
	return &providerv1.DeleteSandboxResponse{}, nil
}

// StartProcess implements sdk.Driver.
func (g *guest) StartProcess(ctx context.Context, _ *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	cmd := runsc.Command{
		ID: execID, Argv: spec.GetArgv(), Env: g.environment(spec), Stdin: spec.GetStdin(),
		Dir:  first(spec.GetWorkdir(), g.spec.GetWorkdir(), g.root.Workdir),
		User: first(spec.GetUser(), g.spec.GetUser(), g.root.User),
	}
	if t := spec.GetTerminal(); t != nil {
		cmd.TTY = &runsc.Size{Rows: cells(t.GetRows()), Cols: cells(t.GetCols())}
	}
	ex, err := g.sb.Start(ctx, cmd)
	if err != nil {
		return startFailure(err, spec)
	}
	return &process{ex: ex, over: g.life.over}, nil
}

// environment is the image's, then the sandbox's, then the command's.
func (g *guest) environment(spec *providerv1.ExecSpec) []string {
	merged := map[string]string{}
	for _, kv := range g.root.Env {
		k, v, _ := strings.Cut(kv, "=")
		merged[k] = v
	}
	maps.Copy(merged, g.spec.GetEnv())
	maps.Copy(merged, spec.GetEnv())
	out := make([]string, 0, len(merged))
	for _, k := range slices.Sorted(maps.Keys(merged)) {
		out = append(out, k+"="+merged[k])
	}
	return out
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// cells bounds a terminal's size to what the kernel can hold.
func cells(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }

// startFailure tells a program that cannot be run, which ends like a command in
// a shell would (REQ-EXEC-003), from a request that is wrong.
func startFailure(err error, spec *providerv1.ExecSpec) (sdk.Process, error) {
	var refused *runsc.GuestError
	if !errors.As(err, &refused) {
		return nil, endedOr(err)
	}
	switch refused.Part {
	case runsc.PartUser:
		return nil, fault.Field("spec.user", spec.GetUser(), "want a user of the sandbox: "+refused.Error())
	case runsc.PartDir:
		return nil, fault.Field("spec.workdir", spec.GetWorkdir(), "want a folder of the sandbox: "+refused.Error())
	case runsc.PartProgram:
		return failed(refused, spec), nil
	}
	return nil, err
}

// endedOr turns the runtime's word that the guest has ended into the contract's.
func endedOr(err error) error {
	if errors.Is(err, runsc.ErrEnded) {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "the sandbox has ended: %w", err).
			With("state", "FAILED")
	}
	return err
}

// elsewhere answers the calls that the plugin never forwards.
type elsewhere struct{}

var errElsewhere = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
	"this call is served by the plugin, not by a sandbox's own process").WithEffect(providerv1.Effect_EFFECT_NONE)

func (elsewhere) Configure(context.Context, *providerv1.ConfigureRequest) error { return errElsewhere }

func (elsewhere) Probe(context.Context) (*providerv1.ProbeResponse, error) { return nil, errElsewhere }

func (elsewhere) CreateSandbox(context.Context, *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	return nil, errElsewhere
}

func (elsewhere) ListSandboxes(context.Context, *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return nil, errElsewhere
}

func (elsewhere) Recover(context.Context, *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return nil, errElsewhere
}

func (elsewhere) ResumeSandbox(context.Context, *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error) {
	return nil, errElsewhere
}

func (elsewhere) ListSnapshots(context.Context, *providerv1.ListSnapshotsRequest) (*providerv1.ListSnapshotsResponse, error) {
	return nil, errElsewhere
}

func (elsewhere) DeleteSnapshot(context.Context, *providerv1.DeleteSnapshotRequest) (*providerv1.DeleteSnapshotResponse, error) {
	return nil, errElsewhere
}

func (elsewhere) RestoreSnapshot(context.Context, *providerv1.RestoreSnapshotRequest) (*providerv1.Sandbox, error) {
	return nil, errElsewhere
}

var (
	_ sdk.Driver            = (*guest)(nil)
	_ sdk.Pauser            = (*guest)(nil)
	_ sdk.Snapshotter       = (*guest)(nil)
	_ sdk.FileReader        = (*guest)(nil)
	_ sdk.FileWriter        = (*guest)(nil)
	_ sdk.ArchiveDownloader = (*guest)(nil)
	_ sdk.ArchiveUploader   = (*guest)(nil)
	_ sdk.Differ            = (*guest)(nil)
	_ sdk.PortDialer        = (*guest)(nil)
	_ sdk.PortLister        = (*guest)(nil)
	_ sdk.UsageReader       = (*guest)(nil)
	_ sdk.LifetimeExtender  = (*guest)(nil)
)
