package sdk_test

import (
	"context"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// tinyDriver is the core and nothing else: sandboxes are names, commands are
// children of the test process.
type tinyDriver struct {
	caps     []*providerv1.Capability
	settings []*providerv1.Setting

	mu        sync.Mutex
	sandboxes map[string]*providerv1.Sandbox
	calls     int
	hook      func(ctx context.Context, method string) error
	launched  []*osexec.Cmd
}

func newTiny(caps ...string) *tinyDriver {
	return &tinyDriver{caps: sdk.Supported(caps...), sandboxes: map[string]*providerv1.Sandbox{}}
}

func (d *tinyDriver) called(ctx context.Context, method string) error {
	d.mu.Lock()
	d.calls++
	hook := d.hook
	d.mu.Unlock()
	if hook != nil {
		return hook(ctx, method)
	}
	return nil
}

func (d *tinyDriver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

func (d *tinyDriver) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	return &providerv1.DescribeResponse{Name: "tiny", Vendor: "Sandbar", Version: "0.1.0", Capabilities: d.caps, Settings: d.settings}, nil
}

func (d *tinyDriver) Configure(ctx context.Context, _ *providerv1.ConfigureRequest) error {
	return d.called(ctx, "Configure")
}

func (d *tinyDriver) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	return &providerv1.ProbeResponse{Ready: true}, d.called(ctx, "Probe")
}

func (d *tinyDriver) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	if err := d.called(ctx, "CreateSandbox"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	sb := &providerv1.Sandbox{Identity: req.GetIdentity(), State: providerv1.SandboxState_SANDBOX_STATE_RUNNING, Operation: req.GetOperation()}
	d.sandboxes[req.GetIdentity().GetSandboxId()] = sb
	return sb, nil
}

func (d *tinyDriver) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	if err := d.called(ctx, "GetSandbox"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, sb := range d.sandboxes {
		if id == req.GetSandbox().GetSandboxId() || req.GetIdempotencyKey() != "" && req.GetIdempotencyKey() == sb.GetOperation().GetIdempotencyKey() {
			return sb, nil
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no sandbox %q", req.GetSandbox().GetSandboxId())
}

func (d *tinyDriver) ListSandboxes(ctx context.Context, _ *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return &providerv1.ListSandboxesResponse{}, d.called(ctx, "ListSandboxes")
}

func (d *tinyDriver) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	if err := d.called(ctx, "DeleteSandbox"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, there := d.sandboxes[req.GetSandbox().GetSandboxId()]
	delete(d.sandboxes, req.GetSandbox().GetSandboxId())
	for _, c := range d.launched {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
	return &providerv1.DeleteSandboxResponse{AlreadyAbsent: !there}, nil
}

func (d *tinyDriver) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	return &providerv1.RecoverResponse{Recoveries: make([]*providerv1.Recovery, len(req.GetSandboxes()))}, d.called(ctx, "Recover")
}

func (d *tinyDriver) StartProcess(ctx context.Context, _ *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	if err := d.called(ctx, "StartProcess"); err != nil {
		return nil, err
	}
	p, err := startChild(spec)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.launched = append(d.launched, p.cmd)
	return p, nil
}

// child is a real process behind the Process interface.
type child struct {
	cmd             *osexec.Cmd
	in, out, errs   *os.File
	inR, outW, errW *os.File
}

func startChild(spec *providerv1.ExecSpec) (*child, error) {
	c := &child{cmd: osexec.Command(spec.GetArgv()[0], spec.GetArgv()[1:]...)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.out, c.outW, err = os.Pipe(); err != nil {
		return nil, err
	}
	if c.errs, c.errW, err = os.Pipe(); err != nil {
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = c.outW, c.errW
	if spec.GetStdin() {
		if c.inR, c.in, err = os.Pipe(); err != nil {
			return nil, err
		}
		c.cmd.Stdin = c.inR
	}
	err = c.cmd.Start()
	_ = c.outW.Close()
	_ = c.errW.Close()
	if c.inR != nil {
		_ = c.inR.Close()
	}
	return c, err
}

func (c *child) Stdin() io.WriteCloser {
	if c.in == nil {
		return nil
	}
	return c.in
}
func (c *child) Stdout() io.Reader { return c.out }
func (c *child) Stderr() io.Reader { return c.errs }

func (c *child) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *osexec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return exec.FromState(c.cmd.ProcessState), nil
}

func (c *child) Signal(_ context.Context, signal providerv1.ExecSignal) error {
	n := map[providerv1.ExecSignal]syscall.Signal{
		providerv1.ExecSignal_EXEC_SIGNAL_KILL: syscall.SIGKILL,
		providerv1.ExecSignal_EXEC_SIGNAL_TERM: syscall.SIGTERM,
	}[signal]
	if err := syscall.Kill(-c.cmd.Process.Pid, n); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func (c *child) Resize(context.Context, *providerv1.Terminal) error { return nil }

func (c *child) Close() error {
	if c.in != nil {
		_ = c.in.Close()
	}
	_ = c.out.Close()
	return c.errs.Close()
}
