// Command sandbar-provider-minimal runs commands as its children and isolates nothing.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"slices"
	"sync"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	pb "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func main() { sdk.Serve(&driver{}, sdk.Options{}) }

type driver struct {
	mu    sync.Mutex
	boxes []*pb.Sandbox
}

func (d *driver) Describe(context.Context) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Name: "minimal", Vendor: "You", Version: "0.1.0", Capabilities: sdk.Supported("egress.open")}, nil
}
func (d *driver) Configure(context.Context, *pb.ConfigureRequest) error { return nil }
func (d *driver) Probe(context.Context) (*pb.ProbeResponse, error) {
	return &pb.ProbeResponse{Ready: true}, nil
}
func (d *driver) CreateSandbox(_ context.Context, req *pb.CreateSandboxRequest) (*pb.Sandbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := req.GetOperation().GetIdempotencyKey()
	same := func(sb *pb.Sandbox) bool { return sb.GetOperation().GetIdempotencyKey() == key }
	if i := slices.IndexFunc(d.boxes, same); i >= 0 { // the same key makes the same sandbox
		return d.boxes[i], nil
	}
	d.boxes = append(d.boxes, &pb.Sandbox{Identity: req.GetIdentity(), Operation: req.GetOperation(), State: pb.SandboxState_SANDBOX_STATE_RUNNING})
	return d.boxes[len(d.boxes)-1], nil
}
func (d *driver) GetSandbox(_ context.Context, req *pb.GetSandboxRequest) (*pb.Sandbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sb := range d.boxes {
		if sb.GetIdentity().GetSandboxId() == req.GetSandbox().GetSandboxId() || sb.GetOperation().GetIdempotencyKey() == req.GetIdempotencyKey() {
			return sb, nil
		}
	}
	return nil, fault.New(pb.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no such sandbox")
}
func (d *driver) ListSandboxes(_ context.Context, req *pb.ListSandboxesRequest) (*pb.ListSandboxesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	other := func(sb *pb.Sandbox) bool { return sb.GetIdentity().GetOwner() != req.GetOwner() }
	return &pb.ListSandboxesResponse{Sandboxes: slices.DeleteFunc(slices.Clone(d.boxes), other)}, nil
}
func (d *driver) DeleteSandbox(_ context.Context, req *pb.DeleteSandboxRequest) (*pb.DeleteSandboxResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, id := len(d.boxes), req.GetSandbox().GetSandboxId()
	d.boxes = slices.DeleteFunc(d.boxes, func(sb *pb.Sandbox) bool { return sb.GetIdentity().GetSandboxId() == id })
	return &pb.DeleteSandboxResponse{AlreadyAbsent: len(d.boxes) == before}, nil
}
func (d *driver) Recover(_ context.Context, req *pb.RecoverRequest) (*pb.RecoverResponse, error) {
	gone := make([]*pb.Recovery, len(req.GetSandboxes())) // they lived in the process that is gone
	for i, ref := range req.GetSandboxes() {
		gone[i] = &pb.Recovery{SandboxId: ref.GetSandboxId(), Outcome: pb.RecoveryOutcome_RECOVERY_OUTCOME_GONE}
	}
	return &pb.RecoverResponse{Recoveries: gone}, nil
}
func (d *driver) StartProcess(_ context.Context, _ *pb.SandboxRef, _ string, spec *pb.ExecSpec) (sdk.Process, error) {
	cmd := osexec.Command(spec.GetArgv()[0], spec.GetArgv()[1:]...)
	cmd.Dir = spec.GetWorkdir()
	for name, value := range spec.GetEnv() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	stdout, outErr := cmd.StdoutPipe()
	stderr, errErr := cmd.StderrPipe()
	return &process{cmd, stdout, stderr}, errors.Join(outErr, errErr, cmd.Start())
}

type process struct {
	cmd            *osexec.Cmd
	stdout, stderr io.ReadCloser
}

func (p *process) Stdin() io.WriteCloser { return nil }
func (p *process) Stdout() io.Reader     { return p.stdout }
func (p *process) Stderr() io.Reader     { return p.stderr }
func (p *process) Wait(context.Context) (*pb.ExitStatus, error) {
	state, err := p.cmd.Process.Wait()
	return exec.FromState(state), err
}
func (p *process) Signal(context.Context, pb.ExecSignal) error { return p.cmd.Process.Signal(os.Kill) }
func (p *process) Resize(context.Context, *pb.Terminal) error  { return nil }
func (p *process) Close() error                                { return errors.Join(p.stdout.Close(), p.stderr.Close()) }
