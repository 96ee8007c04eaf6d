package apitest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"google.golang.org/protobuf/types/known/timestamppb"

	"golang.org/x/sys/unix"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// command is one exec; it keeps all output, so it can be attached to at any
// offset for ever.
type command struct {
	id      string
	spec    *providerv1.ExecSpec
	cmd     *exec.Cmd
	tty     *os.File
	stdin   io.WriteCloser
	started *timestamppb.Timestamp

	mu      sync.Mutex
	changed *sync.Cond
	out     [2][]byte
	eof     [2]bool
	taken   int64
	exit    *providerv1.ExitStatus
}

// StartExec starts a process, or returns the one with this id.
func (b *Broker) StartExec(_ context.Context, req *connect.Request[providerv1.StartExecRequest]) (*connect.Response[providerv1.StartExecResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.called("StartExec")
	s, err := b.find(req.Msg.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	for _, c := range s.execs {
		if c.id == req.Msg.GetExecId() {
			return connect.NewResponse(&providerv1.StartExecResponse{Exec: c.describe()}), nil
		}
	}
	c := start(req.Msg.GetExecId(), req.Msg.GetSpec(), s.msg.GetSpec())
	s.execs = append(s.execs, c)
	return connect.NewResponse(&providerv1.StartExecResponse{Exec: c.describe()}), nil
}

func start(id string, spec *providerv1.ExecSpec, sandbox *providerv1.SandboxSpec) *command {
	c := &command{id: id, spec: spec, started: timestamppb.Now()}
	c.changed = sync.NewCond(&c.mu)
	c.cmd = exec.Command(spec.GetArgv()[0], spec.GetArgv()[1:]...) //nolint:noctx // ended by kill, not by a context
	c.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, env := range []map[string]string{sandbox.GetEnv(), spec.GetEnv()} {
		for k, v := range env {
			c.cmd.Env = append(c.cmd.Env, k+"="+v)
		}
	}
	var err error
	if spec.GetTerminal() != nil {
		err = c.startTTY()
	} else {
		err = c.startPipes()
	}
	if err != nil {
		code := int32(127)
		if errors.Is(err, os.ErrPermission) {
			code = 126
		}
		c.eof = [2]bool{true, true}
		c.exit = &providerv1.ExitStatus{
			Result: &providerv1.ExitStatus_Code{Code: code}, Cause: providerv1.ExitCause_EXIT_CAUSE_TASK, Detail: err.Error(),
		}
	}
	return c
}

func (c *command) startTTY() error {
	f, err := pty.StartWithSize(c.cmd, &pty.Winsize{
		Rows: uint16(c.spec.GetTerminal().GetRows()), Cols: uint16(c.spec.GetTerminal().GetCols()),
	})
	if err != nil {
		return err
	}
	c.tty, c.stdin, c.eof[1] = f, nil, true
	go c.pump(0, f, c.finish)
	return nil
}

func (c *command) startPipes() error {
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if c.spec.GetStdin() {
		if c.stdin, err = c.cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() { c.pump(0, stdout, nil) })
	both.Go(func() { c.pump(1, stderr, nil) })
	go func() {
		both.Wait()
		c.finish()
	}()
	return nil
}

func (c *command) pump(stream int, r io.Reader, then func()) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		c.mu.Lock()
		c.out[stream] = append(c.out[stream], buf[:n]...)
		c.eof[stream] = err != nil
		c.changed.Broadcast()
		c.mu.Unlock()
		if err != nil {
			if then != nil {
				then()
			}
			return
		}
	}
}

func (c *command) finish() {
	_ = c.cmd.Wait() // the status says all
	status, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	exit := &providerv1.ExitStatus{Cause: providerv1.ExitCause_EXIT_CAUSE_TASK}
	if status.Signaled() {
		exit.Result = &providerv1.ExitStatus_Signal{Signal: unix.SignalName(status.Signal())}
	} else {
		exit.Result = &providerv1.ExitStatus_Code{Code: int32(status.ExitStatus())}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exit = exit
	if c.tty != nil {
		_ = c.tty.Close()
	}
	c.changed.Broadcast()
}

func (c *command) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit == nil && c.cmd.Process != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

func (c *command) describe() *providerv1.Exec {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &providerv1.Exec{
		ExecId: c.id, State: providerv1.ExecState_EXEC_STATE_RUNNING, Exit: c.exit, Argv: c.spec.GetArgv(), StartedAt: c.started,
		StdoutTotal: int64(len(c.out[0])), StderrTotal: int64(len(c.out[1])), StdinNext: c.taken, Terminal: c.tty != nil,
	}
	if c.exit != nil {
		e.State = providerv1.ExecState_EXEC_STATE_EXITED
	}
	return e
}

func (b *Broker) command(ref *providerv1.SandboxRef, id string) (*command, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(ref.GetSandboxId())
	if err != nil {
		return nil, err
	}
	for _, c := range s.execs {
		if c.id == id {
			return c, nil
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND, "exec %q does not exist", id)
}

// GetExec answers what is known.
func (b *Broker) GetExec(_ context.Context, req *connect.Request[providerv1.GetExecRequest]) (*connect.Response[providerv1.GetExecResponse], error) {
	c, err := b.command(req.Msg.GetSandbox(), req.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&providerv1.GetExecResponse{Exec: c.describe()}), nil
}

// ListExecs lists all commands.
func (b *Broker) ListExecs(_ context.Context, req *connect.Request[providerv1.ListExecsRequest]) (*connect.Response[providerv1.ListExecsResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.find(req.Msg.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	res := &providerv1.ListExecsResponse{}
	for _, c := range s.execs {
		res.Execs = append(res.Execs, c.describe())
	}
	return connect.NewResponse(res), nil
}

// SignalExec signals the process group.
func (b *Broker) SignalExec(_ context.Context, req *connect.Request[providerv1.SignalExecRequest]) (*connect.Response[providerv1.SignalExecResponse], error) {
	c, err := b.command(req.Msg.GetSandbox(), req.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	name := req.Msg.GetSignal().String()[len("EXEC_SIGNAL_"):]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit == nil && c.cmd.Process != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, unix.SignalNum("SIG"+name))
	}
	return connect.NewResponse(&providerv1.SignalExecResponse{}), nil
}
