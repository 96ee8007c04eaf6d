package runsc

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// Command describes a process to start in the guest. Argv is required.
type Command struct {
	// ID names the exec, unique in the sandbox over all its checkpoints; empty takes a number.
	ID   string
	Argv []string
	// Env is added to PATH, HOME and LANG (and TERM with a terminal), each of which it may replace. Nothing else is inherited.
	Env []string
	// Dir is the working directory; empty is "/".
	Dir string
	// User is a name of the guest's passwd file or a number, either with ":group"; empty is root.
	User string
	// TTY gives the process a terminal of this size, and all its output goes to Stdout.
	TTY *Size
	// Stdin asks for a standard input stream; without, it is the null device.
	Stdin bool
}

// Size is a terminal's size.
type Size = wire.Size

// Exit is how a process ended.
type Exit struct {
	Code   int            // if Signal is zero
	Signal syscall.Signal // that killed it
	OOM    bool           // it was killed for the memory limit
}

// Exec is a process of the guest, running or ended. Call Release when its result and output are no longer needed.
type Exec struct {
	ID  string
	PID int // in the guest
	// Stdin is nil without Command.Stdin, Stderr is nil with a terminal. Their owner closes them. After a restore Stdin is there
	// again, if it had not been closed before.
	Stdin  *Writer
	Stdout *Reader
	Stderr *Reader

	sandbox *Sandbox
	tty     bool
	done    chan struct{}
	once    sync.Once
	exit    Exit // set before done is closed
	lost    error
}

// Done is closed when the process has ended. Output may still be waiting in the streams, and processes it started may still
// hold them open.
func (e *Exec) Done() <-chan struct{} { return e.done }

// Wait returns how the process ended. If the sandbox ended first the result is unknown and the error wraps ErrEnded.
func (e *Exec) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-e.done:
		return e.exit, e.lost
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Signal reaches the process and its group. It is no error if the process has ended.
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := e.sandbox.ctl.call(ctx, &wire.Request{Op: wire.OpSignal, ExecID: e.ID, Signal: int(sig)}, nil)
	return err
}

// Resize sets the terminal's size. Without a terminal it fails with ENOTTY.
func (e *Exec) Resize(ctx context.Context, size Size) error {
	_, err := e.sandbox.ctl.call(ctx, &wire.Request{Op: wire.OpResize, ExecID: e.ID, Size: &size}, nil)
	return err
}

// Release closes the streams and forgets the exec. A process that still runs goes on, with its output failing.
func (e *Exec) Release() {
	e.sandbox.mu.Lock()
	delete(e.sandbox.execs, e.ID)
	e.sandbox.mu.Unlock()
	e.closeStreams()
	select {
	case <-e.done:
	default:
		return // the agent keeps what still runs
	}
	e.sandbox.ctl.forget(e.ID)
}

func (e *Exec) closeStreams() {
	if e.Stdin != nil {
		_ = e.Stdin.Close()
		e.Stdin.remove()
	}
	for _, r := range []*Reader{e.Stdout, e.Stderr} {
		if r != nil {
			_ = r.Close()
		}
	}
}

func (e *Exec) finish(exit Exit, lost error) {
	e.once.Do(func() {
		e.exit, e.lost = exit, lost
		close(e.done)
	})
}

// Start starts a process. An error that is a *GuestError means that nothing was started.
func (s *Sandbox) Start(ctx context.Context, cmd Command) (*Exec, error) {
	ex, err := s.register(cmd)
	if err != nil {
		return nil, err
	}
	req := &wire.Request{
		Op:   wire.OpStart,
		Exec: &wire.Exec{ID: ex.ID, Argv: cmd.Argv, Env: cmd.Env, Cwd: cmd.Dir, User: cmd.User, TTY: cmd.TTY, MaxTasks: s.cfg.Limits.Pids},
	}
	keep, err := ex.openStreams(cmd.Stdin)
	if err == nil {
		req.Stdout = ex.Stdout.name
		if ex.Stderr != nil {
			req.Stderr = ex.Stderr.name
		}
		if ex.Stdin != nil {
			req.Stdin = ex.Stdin.name
		}
		var ev wire.Event
		ev, err = s.ctl.call(ctx, req, nil)
		ex.PID = ev.PID
	}
	closeFiles(keep)
	if err != nil {
		s.mu.Lock()
		delete(s.execs, ex.ID)
		s.mu.Unlock()
		ex.closeStreams()
		return nil, fmt.Errorf("start exec %q: %w", ex.ID, err)
	}
	s.prepareStreams()
	return ex, nil
}

// register enters the exec before it is started, so that its end cannot come too early.
func (s *Sandbox) register(cmd Command) (*Exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := cmd.ID
	if id == "" {
		s.nextExec++
		id = strconv.Itoa(s.nextExec)
	}
	switch {
	case s.closed:
		return nil, fmt.Errorf("start exec %q: %w", id, ErrEnded)
	case !validName(id):
		return nil, fmt.Errorf("start exec %q: id must be letters, digits, '_' and '-': %w", id, syscall.EINVAL)
	case s.execs[id] != nil:
		return nil, fmt.Errorf("start exec %q: %w", id, os.ErrExist)
	}
	ex := &Exec{ID: id, sandbox: s, tty: cmd.TTY != nil, done: make(chan struct{})}
	s.execs[id] = ex
	return ex, nil
}

func validName(id string) bool {
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return id != "" && len(id) <= 128
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Exec returns an exec by id, also one from before a restore.
func (s *Sandbox) Exec(id string) (*Exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ex := s.execs[id]; ex != nil {
		return ex, nil
	}
	return nil, fmt.Errorf("find exec %q: %w", id, os.ErrNotExist)
}

// Execs returns all execs that were not released, in no order.
func (s *Sandbox) Execs() []*Exec {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Exec, 0, len(s.execs))
	for _, ex := range s.execs {
		all = append(all, ex)
	}
	return all
}

// execEvent takes what the agent says about an exec.
func (s *Sandbox) execEvent(st wire.ExecStatus) {
	if !st.Ended {
		return
	}
	s.mu.Lock()
	ex := s.execs[st.ID]
	s.mu.Unlock()
	if ex == nil { // it was released before it ended
		s.ctl.forget(st.ID)
		return
	}
	ex.finish(Exit{Code: st.Code, Signal: syscall.Signal(st.Signal), OOM: st.OOM}, nil)
}
