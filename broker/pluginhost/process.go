package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long the last output of a dead plugin is read. A
// descendant outside the group may hold the pipes for as long as it likes; its
// output is not ours.
const drainTimeout = 500 * time.Millisecond

// process runs a plugin as the leader of its own session and process group and
// implements go-plugin's runner.Runner. Both ends of the pipes are *os.File, so
// that the wait for the leader ends when the leader ends, not when the last
// descendant closes stderr.
//
// A descendant that makes a session of its own, as the local provider's shims
// do, is left alone: it is meant to outlive the plugin.
type process struct {
	path       string
	env        []string
	args       []string
	outR, errR *watchedPipe
	onStart    func(pid int)

	mu     sync.Mutex
	cmd    *exec.Cmd // nil before start
	killed bool      // Kill came first
	reaped bool

	started chan struct{} // closed when start has succeeded
	exited  chan struct{} // closed when it is gone and its pipes are closed
	err     error         // of the leader; valid after exited
}

// newProcess prepares a process that is called path. onStart is told the pid as
// soon as there is one.
func newProcess(path string, args, env []string, onStart func(pid int)) *process {
	return &process{
		path: path, args: args, env: env, onStart: onStart,
		started: make(chan struct{}), exited: make(chan struct{}),
	}
}

// start runs the program that program refers to, which may be closed afterwards.
func (p *process) start(program *os.File) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make stdout pipe: %w", err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make stderr pipe: %w", err), outR.Close(), outW.Close())
	}
	cmd, err := pinned(program, p.path, p.args)
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	cmd.Env = p.env
	cmd.Stdin = nil // the null device
	cmd.Stdout, cmd.Stderr = outW, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	p.outR, p.errR = watch(outR), watch(errR)
	err = p.spawn(cmd)
	err = errors.Join(err, outW.Close(), errW.Close())
	if err != nil {
		return errors.Join(err, outR.Close(), errR.Close())
	}
	close(p.started)
	go p.reap()
	return nil
}

func (p *process) spawn(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return errors.New("start was called off")
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	p.cmd = cmd
	if p.onStart != nil {
		p.onStart(cmd.Process.Pid)
	}
	return nil
}

// reap waits for the leader, ends the rest of its group and closes the pipes.
func (p *process) reap() {
	// Look without reaping: until the leader is reaped its group id cannot
	// belong to anybody else.
	for unix.Waitid(unix.P_PID, p.pid(), nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		continue
	}
	_ = unix.Kill(-p.pid(), unix.SIGKILL)
	p.mu.Lock()
	p.err = p.cmd.Wait()
	p.reaped = true
	p.mu.Unlock()

	drained := time.NewTimer(drainTimeout)
	defer drained.Stop()
	for _, pipe := range []*watchedPipe{p.outR, p.errR} {
		select {
		case <-pipe.eof:
		case <-drained.C:
			drained.Reset(0) // the other pipe has no time left either
		}
	}
	_ = p.outR.Close()
	_ = p.errR.Close()
	close(p.exited)
}

// pid is valid once started is closed.
func (p *process) pid() int { return p.cmd.Process.Pid }

// Kill ends the whole group at once. It may be called at any time, by anybody,
// more than once; before start it makes start fail.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.cmd == nil || p.reaped {
		return nil
	}
	if err := unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", p.cmd.Process.Pid, err)
	}
	return nil
}

// watchedPipe tells when its reader has seen the end.
type watchedPipe struct {
	*os.File
	once sync.Once
	eof  chan struct{}
}

func watch(f *os.File) *watchedPipe { return &watchedPipe{File: f, eof: make(chan struct{})} }

// Read is called by go-plugin's scanners. A pipe that was closed under a reader
// has ended as well.
func (w *watchedPipe) Read(b []byte) (int, error) {
	n, err := w.File.Read(b)
	if err != nil {
		w.once.Do(func() { close(w.eof) })
		if errors.Is(err, os.ErrClosed) {
			err = io.EOF
		}
	}
	return n, err //nolint:wrapcheck // io.Reader's contract wants io.EOF bare
}

// WriteTo hides the one of os.File, which would go around Read.
func (w *watchedPipe) WriteTo(to io.Writer) (int64, error) {
	return io.Copy(to, struct{ io.Reader }{w}) //nolint:wrapcheck // as Read
}
