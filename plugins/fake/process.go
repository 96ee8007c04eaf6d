package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// process is a running program: a goroutine that lives until it returns or is
// killed, and stands still at its next system call while it is frozen. It
// implements system.Process.
//
// Fields above mu belong to the goroutine.
type process struct {
	cloud    *cloud
	box      *box
	cmd      *command
	parent   *process
	pid      int
	uid, gid uint32

	argv     []string
	env      []string
	dir      string
	umask    uint32
	files    map[int]slot
	children map[int]*process
	// gone says that the goroutine is on its way out.
	gone bool
	code int

	ctx    context.Context //nolint:containedctx // the program's life
	cancel context.CancelFunc
	// done is closed at the end, when status is set.
	done   chan struct{}
	status system.Status
	// memory is guarded by the cloud's mutex.
	memory int64

	mu sync.Mutex
	// changed rings on every change below.
	changed bell
	// frozen is the sandbox's pause, stopped the program's own SIGSTOP.
	frozen, stopped bool
	actions         map[system.Signal]system.Action
	pending         []system.Signal
	// interrupted says that a caught signal came for which no call was
	// interrupted yet.
	interrupted bool
	killedBy    system.Signal
	// orphaned says that its sandbox ended it, starved that memory did.
	orphaned, starved bool
}

// spawn starts a process that is made from a template. The caller holds the
// cloud's mutex.
func (c *cloud) spawn(p *process, f func(system.Process) int) error {
	b := p.box
	if limit := b.Spec.M.GetResources().GetPids(); limit > 0 && int64(len(b.live.procs)) >= limit {
		return syscall.EAGAIN
	}
	b.live.lastPID++
	p.cloud, p.pid = c, b.live.lastPID
	p.done, p.frozen = make(chan struct{}), b.State != running
	p.children = map[int]*process{}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	b.live.procs[p] = struct{}{}
	p.cmd.join(p)
	go p.run(f)
	return nil
}

func (p *process) run(f func(system.Process) int) {
	defer p.finish()
	defer func() {
		if r := recover(); r != nil {
			p.cloud.log.Error("a program of the fake panicked", "argv", p.argv, "panic", r, "stack", string(debug.Stack()))
			p.code = 255
		}
	}()
	p.Checkpoint()
	p.code = f(p)
}

// finish releases what the process has, and tells who waits for it.
func (p *process) finish() {
	p.box.live.volley.RLock() // of a volley that killed it, everybody has been hit
	p.gone = true
	p.box.live.volley.RUnlock()
	for fd := range p.files {
		_ = p.Close(fd) // it is open
	}
	p.cloud.mu.Lock()
	delete(p.box.live.procs, p)
	p.box.live.memory -= p.memory
	p.cloud.mu.Unlock()
	p.mu.Lock()
	p.status = system.Status{Code: p.code & 0xff, Signal: p.killedBy}
	p.mu.Unlock()
	p.cancel()
	p.cmd.leave(p)
	close(p.done)
	if p.parent != nil {
		p.parent.deliver(system.SIGCHLD)
	}
}

// Checkpoint is where a process stands still while it is frozen or stopped, and
// where it ends when it was killed.
func (p *process) Checkpoint() {
	for {
		p.mu.Lock()
		held := p.frozen || p.stopped
		var changed <-chan struct{}
		if held {
			changed = p.changed.wait()
		}
		p.mu.Unlock()
		if p.ctx.Err() != nil {
			p.vanish()
			return
		}
		if !held {
			return
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
		}
	}
}

// vanish ends the goroutine, unless it is ending.
func (p *process) vanish() {
	if !p.gone {
		p.gone = true
		runtime.Goexit()
	}
}

// await waits for wake, or for anything else that concerns the process; the
// caller tries again. EINTR says that a caught signal came.
func (p *process) await(wake <-chan struct{}) error {
	err := p.awaitAwake(wake)
	p.Checkpoint()
	return err
}

// PID implements system.Process.
func (p *process) PID() int { return p.pid }

// Parent implements system.Process.
func (p *process) Parent() int {
	if p.parent == nil {
		return 1
	}
	return p.parent.pid
}

// User implements system.Process.
func (p *process) User() (uid, gid uint32) { return p.uid, p.gid }

// Environ implements system.Process.
func (p *process) Environ() []string { return slices.Clone(p.env) }

// Fork implements system.Process.
func (p *process) Fork(f func(system.Process) int) (int, error) {
	p.Checkpoint()
	child := &process{
		box: p.box, cmd: p.cmd, parent: p, uid: p.uid, gid: p.gid, argv: p.argv, env: slices.Clone(p.env), dir: p.dir, umask: p.umask,
		files: maps.Clone(p.files), actions: map[system.Signal]system.Action{},
	}
	p.mu.Lock()
	for s, a := range p.actions {
		if a == system.Ignore {
			child.actions[s] = a
		}
	}
	reaped := p.actions[system.SIGCHLD] == system.Ignore
	p.mu.Unlock()
	for _, s := range child.files {
		s.retain()
	}
	err := p.launch(child, f)
	if err != nil {
		for _, s := range child.files {
			s.release(child)
		}
		if errors.Is(err, errEnding) {
			<-p.ctx.Done()
			p.vanish()
		}
		return 0, err
	}
	if !reaped {
		p.children[child.pid] = child
	}
	return child.pid, nil
}

// errEnding refuses a child to a process that is being killed, or whose sandbox
// is: the kill would miss the child.
var errEnding = fmt.Errorf("the process is about to end: %w", syscall.EAGAIN)

// launch starts a child in one moment with respect to signals for several.
func (p *process) launch(child *process, f func(system.Process) int) error {
	p.box.live.volley.RLock()
	defer p.box.live.volley.RUnlock()
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if p.ctx.Err() != nil || p.cloud.boxes[p.box.Identity.ID] != p.box {
		return errEnding
	}
	return p.cloud.spawn(child, f)
}

// Setsid implements system.Process. The new group is a command without streams of
// its own: nobody but its members has it.
func (p *process) Setsid() error {
	p.Checkpoint()
	p.box.live.volley.RLock() // a signal for one of the groups finds the process in it
	defer p.box.live.volley.RUnlock()
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if p.cmd.lead == p {
		return syscall.EPERM
	}
	p.cmd.drop(p)
	p.cmd = &command{cloud: p.cloud, box: p.box, lead: p, members: map[*process]struct{}{p: {}}}
	return nil
}

// Exit implements system.Process.
func (p *process) Exit(code int) {
	p.code = code
	p.vanish()
}

// Wait implements system.Process.
func (p *process) Wait(pid int) (system.Status, error) {
	p.Checkpoint()
	child := p.children[pid]
	if child == nil {
		return system.Status{}, syscall.ECHILD
	}
	for {
		select {
		case <-child.done:
			delete(p.children, pid)
			return child.status, nil
		default:
		}
		if err := p.await(child.done); err != nil {
			return system.Status{}, err
		}
	}
}

// machine is the memory of a sandbox that has no limit of its own.
const machine = 1 << 30

// Alloc implements system.Process.
func (p *process) Alloc(bytes int64) {
	p.Checkpoint()
	p.cloud.mu.Lock()
	limit := p.box.Spec.M.GetResources().GetMemoryBytes()
	if limit == 0 {
		limit = machine
	}
	bytes = max(bytes, -p.memory) // what a parent took is not the child's to give back
	over := p.box.live.memory+bytes > limit
	if !over {
		p.memory += bytes
		p.box.live.memory += bytes
	}
	p.cloud.mu.Unlock()
	if over {
		p.mu.Lock()
		p.starved = true
		p.mu.Unlock()
		p.deliver(system.SIGKILL)
		p.Checkpoint()
	}
}

// errno is the error of the tree's code as a system call has it.
func errno(err error) error {
	if err == nil {
		return nil
	}
	var plain syscall.Errno
	if errors.As(err, &plain) {
		return plain
	}
	return errnoOf(err)
}
