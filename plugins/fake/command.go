package fake

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// command is what StartExec starts: a process group with its lead process, and
// the streams that the plugin holds the other ends of.
type command struct {
	cloud *cloud
	box   *box
	spec  *providerv1.ExecSpec
	lead  *process
	term  *terminal

	stdin          io.WriteCloser
	stdout, stderr *outside

	mu      sync.Mutex
	members map[*process]struct{}
}

// StartProcess implements sdk.Driver.
func (d *Driver) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := during(ctx, d, "StartExec", func(c *cloud) (*command, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.start(ref.GetSandboxId(), spec)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// start starts a command. The caller holds mu.
func (c *cloud) start(id string, spec *providerv1.ExecSpec) (*command, error) {
	b, err := c.findRunning(id)
	if err != nil {
		return nil, err
	}
	lead := &process{
		box: b, argv: spec.GetArgv(), dir: spec.GetWorkdir(), umask: 0o022,
		files: map[int]slot{}, actions: map[system.Signal]system.Action{},
	}
	if lead.dir == "" {
		lead.dir = b.Spec.M.GetWorkdir()
	}
	if lead.dir == "" {
		lead.dir = "/"
	}
	if at, err := c.view(b).existing(lead.dir, true); err != nil || at.node.Kind != folder {
		return nil, fault.Field("spec.workdir", lead.dir, "want a folder that exists in the sandbox")
	}
	if lead.uid, lead.gid, err = userOf(b, spec.GetUser(), "spec.user"); err != nil {
		return nil, err
	}
	lead.env = environment(b, spec, lead.uid)
	cmd := &command{cloud: c, box: b, spec: spec, lead: lead, members: map[*process]struct{}{}}
	lead.cmd = cmd
	cmd.connect()
	if err := c.spawn(lead, launch(spec.GetArgv())); err != nil {
		limit := b.Spec.M.GetResources().GetPids()
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "the sandbox runs %d processes already", limit).
			With("limit", "pids").With("max", strconv.FormatInt(limit, 10))
	}
	return cmd, nil
}

// launch runs what argv names. Like a shell, it ends with 127 for what does not
// exist and with 126 for what cannot be executed.
func launch(argv []string) func(system.Process) int {
	return func(p system.Process) int {
		why, code := "not found", 127
		file, err := userland.Find(p, argv[0], userland.Getenv(p.Environ(), "PATH"))
		if err == nil {
			err = p.Exec(file, argv, p.Environ())
		}
		if userland.NotFound(err) == 126 {
			why, code = "cannot be executed", 126
		}
		_, _ = io.WriteString(system.Stderr(p), argv[0]+": "+why+"\n") // the code says it too
		return code
	}
}

// homes are the home folders of the users that every fake sandbox knows.
var homes = map[uint32]string{0: "/root", users["user"]: "/home/user"}

func environment(b *box, spec *providerv1.ExecSpec, uid uint32) []string {
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "HOSTNAME": hostname(b)}
	if home := homes[uid]; home != "" {
		env["HOME"] = home
	}
	if spec.GetTerminal() != nil {
		env["TERM"] = "xterm-256color"
	}
	maps.Copy(env, b.Spec.M.GetEnv())
	maps.Copy(env, spec.GetEnv())
	pairs := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		pairs = append(pairs, name+"="+env[name])
	}
	return pairs
}

func hostname(b *box) string {
	if h := b.Spec.M.GetHostname(); h != "" {
		return h
	}
	return b.Identity.ID
}

// connect makes the lead process's standard streams.
func (cmd *command) connect() {
	lead := cmd.lead
	if size := cmd.spec.GetTerminal(); size != nil {
		cmd.term = newTerminal(cmd, size)
		cmd.stdout = readEnd(cmd.term.out)
		end := newOpen(&terminalFile{cmd.term}, os.O_RDWR)
		lead.files[0], lead.files[1], lead.files[2] = slot{open: end}, slot{open: end}, slot{open: end}
		end.refs.Store(3)
		if cmd.spec.GetStdin() {
			cmd.stdin = keyboard{cmd.term}
		}
		return
	}
	in, out, errs := newPipe(0), newPipe(1), newPipe(1)
	if cmd.spec.GetStdin() {
		in.adds(0, 1)
		cmd.stdin = writeEnd(in)
	}
	cmd.stdout, cmd.stderr = readEnd(out), readEnd(errs)
	lead.files[0] = slot{open: newOpen(&pipeEnd{pipe: in, reads: true}, os.O_RDONLY)}
	lead.files[1] = slot{open: newOpen(&pipeEnd{pipe: out}, os.O_WRONLY)}
	lead.files[2] = slot{open: newOpen(&pipeEnd{pipe: errs}, os.O_WRONLY)}
}

func (cmd *command) join(p *process) {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	cmd.members[p] = struct{}{}
}

// leave takes an ended process out of the group. The end of the lead process is
// the end of a terminal: it hangs up on who is left.
func (cmd *command) leave(p *process) {
	cmd.drop(p)
	if p != cmd.lead || cmd.term == nil {
		return
	}
	cmd.term.hangUp()
	cmd.signal(system.SIGHUP)
}

func (cmd *command) drop(p *process) {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	delete(cmd.members, p)
}

// group returns the processes that live.
func (cmd *command) group() []*process {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	return slices.Collect(maps.Keys(cmd.members))
}

// signal reaches the whole group.
func (cmd *command) signal(s system.Signal) { cmd.box.volley(s, cmd.group) }

// Stdin implements sdk.Process.
func (cmd *command) Stdin() io.WriteCloser { return cmd.stdin }

// Stdout implements sdk.Process.
func (cmd *command) Stdout() io.Reader { return cmd.stdout }

// Stderr implements sdk.Process.
func (cmd *command) Stderr() io.Reader {
	if cmd.stderr == nil {
		return nil
	}
	return cmd.stderr
}

// Wait implements sdk.Process.
func (cmd *command) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-cmd.lead.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := cmd.lead
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.Signal == 0 {
		return exec.Exited(p.status.Code), nil
	}
	status := exec.Killed(p.status.Signal.String())
	switch {
	case p.orphaned:
		status.Cause, status.Detail = providerv1.ExitCause_EXIT_CAUSE_SANDBOX, "its sandbox ended"
	case p.starved:
		status.Cause, status.OutOfMemory = providerv1.ExitCause_EXIT_CAUSE_SANDBOX, true
		status.Detail = "the sandbox reached its memory limit"
	}
	return status, nil
}

// Signal implements sdk.Process.
func (cmd *command) Signal(_ context.Context, signal providerv1.ExecSignal) error {
	cmd.cloud.mu.Lock()
	state := cmd.box.State
	cmd.cloud.mu.Unlock()
	if state != running {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "sandbox %q is paused", cmd.box.Identity.ID).
			With("sandbox_id", cmd.box.Identity.ID).With("state", state)
	}
	s, ok := system.ParseSignal(exec.SignalName(signal))
	if !ok {
		return fault.Field("signal", signal.String(), "want a signal that the fake knows")
	}
	cmd.signal(s)
	return nil
}

// Resize implements sdk.Process.
func (cmd *command) Resize(_ context.Context, size *providerv1.Terminal) error {
	if cmd.term != nil {
		cmd.term.SetSize(size.GetRows(), size.GetCols())
	}
	return nil
}

// Close implements sdk.Process.
func (cmd *command) Close() error {
	if cmd.stdin != nil {
		_ = cmd.stdin.Close() // closing ends of pipes never fails
	}
	_ = cmd.stdout.Close()
	if cmd.stderr != nil {
		_ = cmd.stderr.Close()
	}
	return nil
}

// errnoOf finds the errno that the tree's refusals name.
func errnoOf(err error) syscall.Errno {
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) {
		return syscall.ENOENT
	}
	if e := fault.From(err); e != nil {
		if number, ok := errnos[e.Metadata["errno"]]; ok {
			return number
		}
	}
	return syscall.EIO
}

var errnos = map[string]syscall.Errno{
	"ENOTDIR": syscall.ENOTDIR, "ELOOP": syscall.ELOOP, "EISDIR": syscall.EISDIR, "EROFS": syscall.EROFS, "EBUSY": syscall.EBUSY,
	"ENOSPC": syscall.ENOSPC, "EEXIST": syscall.EEXIST, "ENOTEMPTY": syscall.ENOTEMPTY, "EINVAL": syscall.EINVAL,
	"EACCES": syscall.EACCES,
}
