package fake

import (
	"context"
	"io"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// process is a running program: a goroutine that lives until it returns or is
// killed, and stands still at its next system call while it is frozen.
type process struct {
	cloud *cloud
	box   *box
	spec  *providerv1.ExecSpec
	env   map[string]string
	dir   string
	uid   uint32

	ctx    context.Context //nolint:containedctx // the program's life
	cancel context.CancelFunc
	done   chan struct{}
	conns  sync.WaitGroup

	stdin, stdout, stderr *buffer
	signals               chan string

	mu sync.Mutex
	// frozen is the sandbox's pause, stopped the program's own SIGSTOP.
	frozen, stopped bool
	// changed is closed and replaced when one of them changes.
	changed  chan struct{}
	trapped  bool
	killedBy string
	// orphaned says that its sandbox ended it.
	orphaned bool
	status   *providerv1.ExitStatus
	size     *providerv1.Terminal
}

// StartProcess implements sdk.Driver.
func (d *Driver) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := during(ctx, d, "StartExec", func(c *cloud) (*process, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.start(ref.GetSandboxId(), spec)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (c *cloud) start(id string, spec *providerv1.ExecSpec) (*process, error) {
	b, err := c.findRunning(id)
	if err != nil {
		return nil, err
	}
	if limit := b.Spec.M.GetResources().GetPids(); limit > 0 && int64(len(b.live.procs)) >= limit {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "the sandbox runs %d processes already", limit).
			With("limit", "pids").With("max", strconv.FormatInt(limit, 10))
	}
	p := &process{
		cloud: c, box: b, spec: spec, env: environment(b, spec), dir: spec.GetWorkdir(), done: make(chan struct{}),
		stdin: newBuffer(), stdout: newBuffer(), stderr: newBuffer(),
		signals: make(chan string, 16), changed: make(chan struct{}), size: spec.GetTerminal(),
	}
	if p.dir == "" {
		p.dir = b.Spec.M.GetWorkdir()
	}
	if p.dir == "" {
		p.dir = "/"
	}
	if at, err := c.view(b).existing(p.dir, true); err != nil || at.node.Kind != folder {
		return nil, fault.Field("spec.workdir", p.dir, "want a folder that exists in the sandbox")
	}
	if p.uid, _, err = userOf(b, spec.GetUser(), "spec.user"); err != nil {
		return nil, err
	}
	if spec.GetTerminal() != nil {
		p.stderr = p.stdout
	}
	if !spec.GetStdin() {
		p.stdin.closeWrite()
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	b.live.procs[p] = struct{}{}
	go p.run(c.program(b, spec.GetArgv()[0]))
	return p, nil
}

func environment(b *box, spec *providerv1.ExecSpec) map[string]string {
	env := map[string]string{"PATH": "/usr/bin:/bin", "HOME": "/root", "HOSTNAME": hostname(b)}
	if spec.GetTerminal() != nil {
		env["TERM"] = "xterm-256color"
	}
	maps.Copy(env, b.Spec.M.GetEnv())
	maps.Copy(env, spec.GetEnv())
	return env
}

func hostname(b *box) string {
	if h := b.Spec.M.GetHostname(); h != "" {
		return h
	}
	return b.Identity.ID
}

func (p *process) run(program Program) {
	code := program(p)
	p.cancel()
	p.conns.Wait()
	p.mu.Lock()
	if p.killedBy != "" {
		p.status = exec.Killed(p.killedBy)
		if p.orphaned {
			p.status.Cause, p.status.Detail = providerv1.ExitCause_EXIT_CAUSE_SANDBOX, "its sandbox ended"
		}
	} else {
		p.status = exec.Exited(code)
	}
	p.mu.Unlock()
	p.stdin.fail(io.ErrClosedPipe)
	p.stdout.closeWrite()
	p.stderr.closeWrite()
	p.cloud.mu.Lock()
	delete(p.box.live.procs, p)
	for port, owner := range p.box.live.ports {
		if owner == p {
			delete(p.box.live.ports, port)
		}
	}
	p.cloud.mu.Unlock()
	close(p.done)
}

// Stdin implements sdk.Process.
func (p *process) Stdin() io.WriteCloser {
	switch {
	case !p.spec.GetStdin():
		return nil
	case p.spec.GetTerminal() != nil:
		return &lineDiscipline{p}
	}
	return p.stdin
}

// Stdout implements sdk.Process.
func (p *process) Stdout() io.Reader { return p.stdout }

// Stderr implements sdk.Process.
func (p *process) Stderr() io.Reader {
	if p.spec.GetTerminal() != nil {
		return nil
	}
	return p.stderr
}

// Wait implements sdk.Process.
func (p *process) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.status, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Signal implements sdk.Process.
func (p *process) Signal(_ context.Context, signal providerv1.ExecSignal) error {
	p.cloud.mu.Lock()
	state := p.box.State
	p.cloud.mu.Unlock()
	if state != running {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "sandbox %q is paused", p.box.Identity.ID).
			With("sandbox_id", p.box.Identity.ID).With("state", state)
	}
	p.deliver(exec.SignalName(signal))
	return nil
}

// deliver does what Linux does by default, unless the program traps signals.
func (p *process) deliver(name string) {
	p.mu.Lock()
	trapped := p.trapped
	p.mu.Unlock()
	switch {
	case name == "SIGSTOP" || (name == "SIGTSTP" && !trapped):
		p.set(func() { p.stopped = true })
	case name == "SIGKILL":
		p.kill(name)
	case trapped:
		select {
		case p.signals <- name:
		default: // pending signals are few, as on Linux
		}
	case name == "SIGWINCH":
	case name == "SIGCONT":
	default:
		p.kill(name)
	}
	if name == "SIGCONT" {
		p.set(func() { p.stopped = false })
	}
}

// Resize implements sdk.Process.
func (p *process) Resize(_ context.Context, size *providerv1.Terminal) error {
	p.mu.Lock()
	p.size = size
	p.mu.Unlock()
	p.deliver("SIGWINCH")
	return nil
}

// Close implements sdk.Process.
func (p *process) Close() error {
	p.stdin.fail(io.ErrClosedPipe)
	p.stdout.fail(io.ErrClosedPipe)
	p.stderr.fail(io.ErrClosedPipe)
	return nil
}

// kill ends the program at its next system call.
func (p *process) kill(name string) {
	p.mu.Lock()
	if p.killedBy == "" {
		p.killedBy = name
	}
	p.mu.Unlock()
	p.cancel()
	p.stdin.fail(io.ErrClosedPipe)
	p.stdout.closeWrite() // writers fail, readers get the rest and a clean end
	p.stderr.closeWrite()
}

// end kills the program because its sandbox ends, and waits for it.
func (p *process) end() {
	p.mu.Lock()
	p.orphaned = true
	p.mu.Unlock()
	p.kill("SIGKILL")
	<-p.done
}

func (p *process) freeze(v bool) { p.set(func() { p.frozen = v }) }

func (p *process) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// gate is where a program stands still while it is frozen or stopped.
func (p *process) gate() error {
	for {
		p.mu.Lock()
		held, changed := p.frozen || p.stopped, p.changed
		p.mu.Unlock()
		if !held || p.ctx.Err() != nil {
			return p.ctx.Err()
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
		}
	}
}

// sleep waits for d of the program's own time, or for a trapped signal, which it
// returns.
func (p *process) sleep(d time.Duration) (signal string, err error) {
	for d > 0 {
		if err := p.gate(); err != nil {
			return "", err
		}
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		start := time.Now()
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
			return "", p.gate()
		case name := <-p.signals:
			timer.Stop()
			return name, nil
		case <-changed:
			timer.Stop()
			d -= time.Since(start)
		case <-p.ctx.Done():
			timer.Stop()
			return "", p.ctx.Err()
		}
	}
	return "", p.gate()
}

// Read is the program's standard input.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.stdin.Read(b)
	if held := p.gate(); held != nil {
		return 0, held
	}
	return n, err
}

// Write is the program's standard output.
func (p *process) Write(b []byte) (int, error) {
	if err := p.gate(); err != nil {
		return 0, err
	}
	if p.spec.GetTerminal() != nil {
		return len(b), cooked(p.stdout, b)
	}
	return p.stdout.Write(b)
}

// errs is the program's standard error.
func (p *process) errs() io.Writer { return errorWriter{p} }

type errorWriter struct{ p *process }

func (w errorWriter) Write(b []byte) (int, error) {
	if err := w.p.gate(); err != nil {
		return 0, err
	}
	if w.p.spec.GetTerminal() != nil {
		return len(b), cooked(w.p.stdout, b)
	}
	return w.p.stderr.Write(b)
}
