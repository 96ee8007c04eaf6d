// Command sandbar-provider-folder gives each sandbox a folder, which its commands
// see as /tmp. It isolates nothing else: it shows what a provider has to keep.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	pb "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func main() { sdk.Serve(&driver{running: map[string][]int{}}, sdk.Options{}) }

// driver keeps every sandbox in one file, so that the plugin that follows a crash
// finds them. A sandbox without an identity was deleted: its key is used up.
type driver struct {
	mu      sync.Mutex
	dir     string
	boxes   []*pb.Sandbox
	running map[string][]int // process groups by sandbox
}

func (d *driver) Describe(context.Context) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Name: "folder", Vendor: "Example", Version: "0.1.0", Capabilities: sdk.Supported("egress.open")}, nil
}

func (d *driver) Configure(_ context.Context, req *pb.ConfigureRequest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	raw, err := os.ReadFile(filepath.Join(req.GetStateDir(), "sandboxes.json"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var kept pb.ListSandboxesResponse
	if err == nil {
		err = protojson.Unmarshal(raw, &kept)
	} else {
		err = nil
	}
	d.dir, d.boxes = req.GetStateDir(), kept.GetSandboxes()
	return err
}

func (d *driver) Probe(context.Context) (*pb.ProbeResponse, error) {
	root := &pb.ProbeCheck{Name: "root", Status: pb.ProbeStatus_PROBE_STATUS_OK, Detail: "the plugin runs as root"}
	if os.Geteuid() != 0 {
		root.Status, root.Detail, root.Remedy = pb.ProbeStatus_PROBE_STATUS_FAILED, "the plugin may not mount anything", "run the broker as root"
	}
	return &pb.ProbeResponse{Ready: os.Geteuid() == 0, Checks: []*pb.ProbeCheck{root}}, nil
}

// save writes the file whole or not at all. The caller holds mu.
func (d *driver) save() error {
	raw, err := protojson.Marshal(&pb.ListSandboxesResponse{Sandboxes: d.boxes})
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "sandboxes.json")
	return errors.Join(os.WriteFile(file+".new", raw, 0o600), os.Rename(file+".new", file))
}

func (d *driver) index(is func(*pb.Sandbox) bool) int { return slices.IndexFunc(d.boxes, is) }

func (d *driver) byID(id string) int {
	return d.index(func(sb *pb.Sandbox) bool { return sb.GetIdentity() != nil && sb.GetIdentity().GetSandboxId() == id })
}

func (d *driver) byKey(key string) int {
	return d.index(func(sb *pb.Sandbox) bool { return sb.GetOperation().GetIdempotencyKey() == key })
}

func absent(what, name string) error {
	return fault.New(pb.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no sandbox with %s %q", what, name).With(what, name)
}

func (d *driver) CreateSandbox(_ context.Context, req *pb.CreateSandboxRequest) (*pb.Sandbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	op, id := req.GetOperation(), req.GetIdentity().GetSandboxId()
	if i := d.byKey(op.GetIdempotencyKey()); i >= 0 {
		made := d.boxes[i]
		if !slices.Equal(made.GetOperation().GetRequestDigest(), op.GetRequestDigest()) {
			return nil, fault.New(pb.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the key made something else").
				With("idempotency_key", op.GetIdempotencyKey())
		}
		if made.GetIdentity() == nil {
			return nil, absent("idempotency_key", op.GetIdempotencyKey())
		}
		return made, nil
	}
	if d.byID(id) >= 0 {
		return nil, fault.New(pb.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "sandbox %q exists", id).With("sandbox_id", id)
	}
	if _, _, err := credential(req.GetSpec().GetUser()); err != nil {
		return nil, err
	}
	tmp := filepath.Join(d.dir, id, "tmp")
	if err := errors.Join(os.MkdirAll(tmp, 0o755), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		return nil, err
	}
	spec, err := protojson.Marshal(req.GetSpec())
	if err != nil {
		return nil, err
	}
	sb := &pb.Sandbox{
		Identity: req.GetIdentity(), Operation: op, State: pb.SandboxState_SANDBOX_STATE_RUNNING, VendorId: id,
		CreatedAt: timestamppb.Now(), Handle: &pb.Handle{Version: 1, Data: []byte(id)}, EgressStrength: pb.EgressStrength_EGRESS_STRENGTH_NONE,
	}
	d.boxes = append(d.boxes, sb)
	return sb, errors.Join(os.WriteFile(filepath.Join(d.dir, id, "spec.json"), spec, 0o600), d.save())
}

// credential is a user as uid or uid:gid, root if it is empty.
func credential(user string) (uid, gid int, err error) {
	if user == "" {
		return 0, 0, nil
	}
	n, _ := fmt.Sscanf(user, "%d:%d", &uid, &gid)
	if n == 0 {
		return 0, 0, fault.New(pb.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "spec.user is %q: want uid or uid:gid", user).With(fault.MetaField, "spec.user")
	}
	if n == 1 {
		gid = uid
	}
	return uid, gid, nil
}

func (d *driver) GetSandbox(_ context.Context, req *pb.GetSandboxRequest) (*pb.Sandbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if key := req.GetIdempotencyKey(); key != "" {
		if i := d.byKey(key); i >= 0 && d.boxes[i].GetIdentity() != nil {
			return d.boxes[i], nil
		}
		return nil, absent("idempotency_key", key)
	}
	if i := d.byID(req.GetSandbox().GetSandboxId()); i >= 0 {
		return d.boxes[i], nil
	}
	return nil, absent("sandbox_id", req.GetSandbox().GetSandboxId())
}

func (d *driver) ListSandboxes(_ context.Context, req *pb.ListSandboxesRequest) (*pb.ListSandboxesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &pb.ListSandboxesResponse{}
	for _, sb := range d.boxes {
		if id := sb.GetIdentity(); id != nil && id.GetOwner() == req.GetOwner() && id.GetSandboxId() > req.GetPageToken() {
			out.Sandboxes = append(out.Sandboxes, sb)
		}
	}
	slices.SortFunc(out.Sandboxes, func(a, b *pb.Sandbox) int {
		return cmp.Compare(a.GetIdentity().GetSandboxId(), b.GetIdentity().GetSandboxId())
	})
	if n := int(req.GetPageSize()); len(out.Sandboxes) > n {
		out.Sandboxes = out.Sandboxes[:n]
		out.NextPageToken = out.Sandboxes[n-1].GetIdentity().GetSandboxId()
	}
	return out, nil
}

func (d *driver) DeleteSandbox(_ context.Context, req *pb.DeleteSandboxRequest) (*pb.DeleteSandboxResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := req.GetSandbox().GetSandboxId()
	i := d.byID(id)
	if i < 0 {
		return &pb.DeleteSandboxResponse{AlreadyAbsent: true}, nil
	}
	for _, group := range d.running[id] {
		_ = syscall.Kill(-group, syscall.SIGKILL) // one that has ended is no error
	}
	delete(d.running, id)
	d.boxes[i] = &pb.Sandbox{Operation: d.boxes[i].GetOperation()}
	return &pb.DeleteSandboxResponse{}, errors.Join(os.RemoveAll(filepath.Join(d.dir, id)), d.save())
}

func (d *driver) Recover(_ context.Context, req *pb.RecoverRequest) (*pb.RecoverResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &pb.RecoverResponse{}
	for _, ref := range req.GetSandboxes() {
		r := &pb.Recovery{SandboxId: ref.GetSandboxId(), Outcome: pb.RecoveryOutcome_RECOVERY_OUTCOME_GONE}
		if i := d.byID(ref.GetSandboxId()); i >= 0 {
			r.Outcome, r.Sandbox = pb.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, d.boxes[i]
		}
		out.Recoveries = append(out.Recoveries, r)
	}
	return out, nil
}

func (d *driver) StartProcess(_ context.Context, ref *pb.SandboxRef, _ string, spec *pb.ExecSpec) (sdk.Process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := ref.GetSandboxId()
	if d.byID(id) < 0 {
		return nil, absent("sandbox_id", id)
	}
	raw, err := os.ReadFile(filepath.Join(d.dir, id, "spec.json"))
	if err != nil {
		return nil, err
	}
	var box pb.SandboxSpec
	if err := protojson.Unmarshal(raw, &box); err != nil {
		return nil, err
	}
	tmp, workdir := filepath.Join(d.dir, id, "tmp"), cmp.Or(spec.GetWorkdir(), box.GetWorkdir(), "/")
	seen := workdir // where it is on this side
	if rest, ok := strings.CutPrefix(workdir+"/", "/tmp/"); ok {
		seen = filepath.Join(tmp, rest)
	}
	if info, err := os.Stat(seen); err != nil || !info.IsDir() {
		return nil, fault.Field("spec.workdir", workdir, "want a folder that exists")
	}
	uid, gid, err := credential(box.GetUser())
	if err != nil {
		return nil, err
	}
	// env sets what the command starts with, and ends with 127 or 126 where it
	// cannot be started.
	argv := []string{
		"-c", `mount --bind "$1" /tmp && shift && exec "$@"`, "sh", tmp,
		"setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups", "--",
		"env", "-i", "-C", workdir, "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp",
	}
	for _, vars := range []map[string]string{box.GetEnv(), spec.GetEnv()} {
		for name, value := range vars {
			argv = append(argv, name+"="+value)
		}
	}
	cmd := osexec.Command("/bin/sh", append(argv, spec.GetArgv()...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
	stdout, outErr := cmd.StdoutPipe()
	stderr, errErr := cmd.StderrPipe()
	if err := errors.Join(outErr, errErr, cmd.Start()); err != nil {
		return nil, err
	}
	d.running[id] = append(d.running[id], cmd.Process.Pid)
	return &process{cmd, stdout, stderr}, nil
}

// process is one command, in a process group of its own.
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
func (p *process) Signal(context.Context, pb.ExecSignal) error {
	return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}
func (p *process) Resize(context.Context, *pb.Terminal) error { return nil }
func (p *process) Close() error                               { return errors.Join(p.stdout.Close(), p.stderr.Close()) }
