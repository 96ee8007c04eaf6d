package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/execio"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type execCmd struct {
	streamFlags
	Env     []string       `short:"e" sep:"none" help:"Environment variable; NAME alone passes yours on." placeholder:"NAME[=VALUE]"`
	EnvFile []string       `sep:"none" help:"File with NAME=VALUE lines; --env wins." placeholder:"FILE"`
	Workdir string         `short:"w" help:"Working directory inside." placeholder:"DIR"`
	User    string         `short:"u" help:"User inside: name, uid or uid:gid." placeholder:"USER"`
	Timeout value.Duration `help:"Kill the command after this time." placeholder:"TIME"`
	Detach  bool           `short:"d" help:"Print the command's id and do not wait; sandbar logs shows its output."`
	Sandbox string         `arg:"" help:"Id or name."`
	Argv    []string       `arg:"" passthrough:"partial" name:"command" help:"Program and arguments, after --."`
}

// Help is shown below the flags.
func (*execCmd) Help() string { return (*runCmd)(nil).Help() }

// Run runs a command in a sandbox that exists.
func (c *execCmd) Run(ctx context.Context, a *app) error {
	argv, err := command(c.Argv)
	if err != nil {
		return err
	}
	env, err := a.environment(c.EnvFile, c.Env)
	if err != nil {
		return err
	}
	spec := &providerv1.ExecSpec{Argv: argv, Env: env, Workdir: c.Workdir, User: c.User}
	if c.Timeout != 0 {
		spec.Timeout = durationpb.New(time.Duration(c.Timeout))
	}
	if c.Detach {
		return c.detach(ctx, a, spec)
	}
	e, err := newExecution(a, &c.streamFlags, spec)
	if err != nil {
		return err
	}
	return e.run(ctx, c.Sandbox)
}

// detach starts a command that nobody reads: it may lose its oldest output, but
// must not stand still.
func (c *execCmd) detach(ctx context.Context, a *app, spec *providerv1.ExecSpec) error {
	if c.TTY != nil && *c.TTY || c.Stdin != nil && *c.Stdin {
		return &usageError{message: "--detach leaves nobody to feed a terminal or standard input; leave out --tty and --stdin"}
	}
	spec.OutputPolicy = providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST
	id := newExecID()
	exec, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*providerv1.Exec, error) {
		res, err := cl.StartExec(ctx, request(&providerv1.StartExecRequest{Sandbox: ref(c.Sandbox), ExecId: id, Spec: spec}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetExec(), nil
	})
	if err != nil {
		return startVerdict(a, err)
	}
	if a.JSON {
		return render.Message(a.stdout, exec)
	}
	return a.out("%s", exec.GetExecId())
}

// findShell starts the best shell that an image has.
const findShell = `for s in bash ash sh; do p=$(command -v $s) && exec "$p"; done; exec sh`

type shellCmd struct {
	specFlags
	streamFlags
	Keep    bool   `help:"Keep a new sandbox when the shell has ended."`
	Shell   string `help:"Shell to start; default: bash if there is one, else sh." placeholder:"PATH"`
	Sandbox string `arg:"" optional:"" help:"Id or name; default: a new sandbox, removed when the shell ends."`
}

// Run opens a shell.
func (c *shellCmd) Run(ctx context.Context, a *app) error {
	spec := &providerv1.ExecSpec{Argv: []string{"/bin/sh", "-c", findShell}}
	if c.Shell != "" {
		spec.Argv = []string{c.Shell}
	}
	req, err := c.request(a)
	if err != nil {
		return err
	}
	if c.Sandbox == "" {
		keep := c.Keep || c.Name != ""
		if req.GetName() == "" {
			req.Name = runName()
		}
		if !keep && req.GetIdle() == nil {
			req.Idle = &brokerv1.Idle{Timeout: durationpb.New(abandonedAfter), Action: brokerv1.IdleAction_IDLE_ACTION_DELETE}
		}
		return a.runInNew(ctx, req, spec, &c.streamFlags, keep)
	}
	if flag := c.newOnly(); flag != "" {
		return &usageError{message: fmt.Sprintf("--%s is for a new sandbox, and %q exists already; leave out one of them", flag, c.Sandbox)}
	}
	spec.Env, spec.Workdir, spec.User = req.GetSpec().GetEnv(), c.Workdir, c.User
	e, err := newExecution(a, &c.streamFlags, spec)
	if err != nil {
		return err
	}
	return e.run(ctx, c.Sandbox)
}

// newOnly returns a flag that makes no sense for a sandbox that exists.
func (c *shellCmd) newOnly() string {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", c.Name != ""},
		{"provider", c.Provider != ""},
		{"image", c.Image != ""},
		{"cpu", c.CPU != 0},
		{"memory", c.Memory != 0},
		{"disk", c.Disk != 0},
		{"pids", c.Pids != 0},
		{"hostname", c.Hostname != ""},
		{"region", c.Region != ""},
		{"mount", c.Mount != nil},
		{"volume", c.Volume != nil},
		{"label", c.Label != nil},
		{"lifetime", c.Lifetime != 0},
		{"idle", c.Idle != 0},
		{"keep", c.Keep},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

type psCmd struct {
	Sandbox string `arg:"" help:"Id or name."`
}

// Run lists the commands of a sandbox.
func (c *psCmd) Run(ctx context.Context, a *app) error {
	execs, err := a.listExecs(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Messages(a.stdout, execs)
	}
	rows := make([][]string, 0, len(execs))
	for _, e := range execs {
		rows = append(rows, []string{
			e.GetExecId(), execState(e), render.Ago(a.now(), e.GetStartedAt()),
			render.Bytes(e.GetStdoutTotal() + e.GetStderrTotal()), render.Argv(e.GetArgv()),
		})
	}
	return render.Table(a.stdout, []string{"EXEC", "STATE", "STARTED", "OUTPUT", "COMMAND"}, rows)
}

func execState(e *providerv1.Exec) string {
	if e.GetState() != providerv1.ExecState_EXEC_STATE_EXITED {
		return render.Enum(e.GetState(), "EXEC_STATE_")
	}
	switch r := e.GetExit().GetResult().(type) {
	case *providerv1.ExitStatus_Code:
		return fmt.Sprintf("exited %d", r.Code)
	case *providerv1.ExitStatus_Signal:
		return r.Signal
	default:
		return "exited ?"
	}
}

func (a *app) listExecs(ctx context.Context, sandbox string) ([]*providerv1.Exec, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) ([]*providerv1.Exec, error) {
		res, err := c.ListExecs(ctx, request(&providerv1.ListExecsRequest{Sandbox: ref(sandbox)}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetExecs(), nil
	})
}

type logsCmd struct {
	Follow  bool   `short:"f" help:"Go on until the command has ended."`
	Sandbox string `arg:"" help:"Id or name."`
	Exec    string `arg:"" optional:"" help:"Id of the command; default: the newest."`
}

// Run shows what a command wrote, each stream on its own.
func (c *logsCmd) Run(ctx context.Context, a *app) error {
	if c.Exec == "" {
		execs, err := a.listExecs(ctx, c.Sandbox)
		if err != nil {
			return err
		}
		if len(execs) == 0 {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND, "sandbox %q has run no command whose output is still there", c.Sandbox)
		}
		c.Exec = execs[len(execs)-1].GetExecId()
	}
	exec, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*providerv1.Exec, error) {
		res, err := cl.GetExec(ctx, request(&providerv1.GetExecRequest{Sandbox: ref(c.Sandbox), ExecId: c.Exec}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetExec(), nil
	})
	if err != nil {
		return err
	}
	o := execio.Options{
		Sandbox: c.Sandbox, ExecID: c.Exec, Open: a.openAttach,
		Stdout: a.stdout, Stderr: a.stderr, FromOldest: true,
	}
	if !c.Follow && exec.GetState() == providerv1.ExecState_EXEC_STATE_RUNNING {
		o.Until = &execio.Offsets{Stdout: exec.GetStdoutTotal(), Stderr: exec.GetStderrTotal()}
	}
	res, err := execio.Attach(ctx, o)
	if err != nil {
		return err
	}
	if n := res.Missing.Stdout + res.Missing.Stderr; n > 0 {
		a.warn("the oldest %s of output are no longer kept", render.Bytes(n))
	}
	if o.Until == nil {
		if _, sentence := exitCode(res.Exit); sentence != "" {
			a.warn("%s", sentence)
		}
	}
	return nil
}

type killCmd struct {
	Signal  string `short:"s" default:"TERM" help:"Signal by name, such as TERM, KILL or INT." placeholder:"NAME"`
	Sandbox string `arg:"" help:"Id or name."`
	Exec    string `arg:"" help:"Id of the command."`
}

// Run sends a signal to a command's process group.
func (c *killCmd) Run(ctx context.Context, a *app) error {
	name := "EXEC_SIGNAL_" + strings.TrimPrefix(strings.ToUpper(c.Signal), "SIG")
	sig := providerv1.ExecSignal(providerv1.ExecSignal_value[name])
	if sig == providerv1.ExecSignal_EXEC_SIGNAL_UNSPECIFIED {
		return badFlag("signal", c.Signal, "cannot be sent; use HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, STOP, TSTP, WINCH, PIPE or ALRM")
	}
	_, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*providerv1.SignalExecResponse, error) {
		_, err := cl.SignalExec(ctx, request(&providerv1.SignalExecRequest{Sandbox: ref(c.Sandbox), ExecId: c.Exec, Signal: sig}))
		return nil, err
	})
	return err
}
