package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// abandonedAfter removes a run's sandbox whose CLI was killed: nothing else
	// would. A running command counts as use, so it never ends a live run.
	abandonedAfter = 5 * time.Minute
	// cleanupLimit bounds the removal at the end, in which signals are not heard.
	cleanupLimit = 30 * time.Second
)

type runCmd struct {
	specFlags
	streamFlags
	Timeout value.Duration `help:"Kill the command after this time." placeholder:"TIME"`
	Keep    bool           `help:"Keep the sandbox when the command has ended."`
	Argv    []string       `arg:"" passthrough:"partial" name:"command" help:"Program and arguments, after --."`
}

// Help is shown below the flags.
func (*runCmd) Help() string {
	return "Ends with the command's own exit code, 128+n if signal n ended it, 127 if it does not exist, 126 if it cannot be run, and 125 if Sandbar failed. " +
		"Standard input is passed on if it is not a terminal. The first Ctrl-C goes to the command; a second within two seconds kills it."
}

// Run creates a sandbox, runs the command in it, and removes the sandbox
// however that ended.
func (c *runCmd) Run(ctx context.Context, a *app) error {
	argv, err := command(c.Argv)
	if err != nil {
		return err
	}
	req, err := c.request(a)
	if err != nil {
		return err
	}
	keep := c.Keep || c.Name != ""
	if req.GetName() == "" {
		req.Name = runName()
	}
	if !keep && req.GetIdle() == nil {
		req.Idle = &brokerv1.Idle{Timeout: durationpb.New(abandonedAfter), Action: brokerv1.IdleAction_IDLE_ACTION_DELETE}
	}
	spec := &providerv1.ExecSpec{Argv: argv}
	if c.Timeout != 0 {
		spec.Timeout = durationpb.New(time.Duration(c.Timeout))
	}
	return a.runInNew(ctx, req, spec, &c.streamFlags, keep)
}

// runInNew is run, and shell without a sandbox.
func (a *app) runInNew(ctx context.Context, req *brokerv1.CreateSandboxRequest, spec *providerv1.ExecSpec, flags *streamFlags, keep bool) error {
	e, err := newExecution(a, flags, spec)
	if err != nil {
		return err
	}
	sb, err := a.createOwned(ctx, req)
	if err != nil {
		return err
	}
	id := sb.GetSandboxId()
	if !keep {
		defer a.removeOwned(ctx, id)
	}
	err = e.run(ctx, id)
	if keep {
		a.note("kept %s; `sandbar rm %s` removes it", req.GetName(), req.GetName())
	}
	return err
}

// createOwned creates a sandbox, and removes what may have become of it when
// the creation fails or is interrupted.
func (a *app) createOwned(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	if _, err := a.connect(ctx); err != nil {
		return nil, err
	}
	defer a.progress("creating the sandbox")()
	// The call outlives an interrupt: only its answer, or the sandbox itself,
	// proves that there is something to remove or that there is nothing.
	cctx, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	made := make(chan creation, 1)
	go func() {
		sb, err := steady(cctx, a, longCall, func(ctx context.Context, c *client.Client) (*brokerv1.Sandbox, error) {
			res, err := c.CreateSandbox(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg.GetSandbox(), nil
		})
		made <- creation{sb, err}
	}()
	select {
	case <-ctx.Done():
		a.undo(ctx, req.GetName(), made)
		abandon()
		return nil, context.Cause(ctx)
	case m := <-made:
		sb, err := m.sandbox, m.err
		if err == nil {
			sb, err = a.usable(ctx, sb)
		}
		if err != nil && mayHaveCreated(err) {
			a.removeOwned(ctx, req.GetName())
		}
		return sb, err
	}
}

// creation is the answer to a create.
type creation struct {
	sandbox *brokerv1.Sandbox
	err     error
}

// undoLimit is how long to wait for a creation that has left no trace yet, such
// as one that waits for its provider to start.
const undoLimit = 5 * time.Second

// undo removes the sandbox of a creation that is still under way. Its name is
// ours alone, so the first removal that finds it ends the search.
func (a *app) undo(ctx context.Context, name string, made <-chan creation) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	defer a.signals.handle(func(os.Signal) {})()
	limit := time.NewTimer(undoLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		absent, err := a.remove(ctx, name)
		if err == nil && !absent {
			return
		}
		select {
		case m := <-made:
			if m.err == nil || mayHaveCreated(m.err) {
				a.removeOwned(ctx, name)
			}
			return
		case <-limit.C:
			if err != nil {
				a.warnLeft(name, err)
			}
			return
		case <-tick.C:
		}
	}
}

// askEvery is how often a sandbox that is still being made is asked for.
const askEvery = 200 * time.Millisecond

// usable waits until a new sandbox can be used.
func (a *app) usable(ctx context.Context, sb *brokerv1.Sandbox) (*brokerv1.Sandbox, error) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		switch sb.GetState() {
		case providerv1.SandboxState_SANDBOX_STATE_CREATING:
		case providerv1.SandboxState_SANDBOX_STATE_FAILED:
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_STATE_LOST, "sandbox %s failed: %s", sb.GetSandboxId(), sb.GetStatusReason()).
				With("sandbox_id", sb.GetSandboxId())
		default:
			return sb, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
		var err error
		if sb, err = a.getSandbox(ctx, sb.GetSandboxId(), false); err != nil {
			return nil, err
		}
	}
}

// mayHaveCreated is false only where the broker itself said that nothing
// happened.
func mayHaveCreated(err error) bool {
	var f *fault.Error
	if !errors.As(err, &f) {
		var i *interruptedError
		return errors.As(err, &i)
	}
	return f.Effect != providerv1.Effect_EFFECT_NONE
}

// removeOwned removes a sandbox that belongs to this process alone. It goes on
// when the context has ended, and says so if the sandbox may have stayed.
func (a *app) removeOwned(ctx context.Context, sandbox string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	defer a.signals.handle(func(s os.Signal) {
		if interrupts(s) {
			a.note("removing the sandbox")
		}
	})()
	if _, err := a.remove(ctx, sandbox); err != nil {
		a.warnLeft(sandbox, err)
	}
}

func (a *app) warnLeft(sandbox string, err error) {
	a.warn("sandbox %s may still be there: %s; `sandbar rm %s` removes it", sandbox, oneLine(err.Error()), sandbox)
}

// remove deletes a sandbox and waits out whatever else is being done to it.
func (a *app) remove(ctx context.Context, sandbox string) (absent bool, err error) {
	return a.removeWhile(ctx, &brokerv1.DeleteSandboxRequest{Sandbox: sandbox})
}

// removeWhile is remove that does nothing unless another sandbox lives, if one is
// named.
func (a *app) removeWhile(ctx context.Context, req *brokerv1.DeleteSandboxRequest) (absent bool, err error) {
	wait := 50 * time.Millisecond
	for {
		res, err := steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*brokerv1.DeleteSandboxResponse, error) {
			res, err := c.DeleteSandbox(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS) {
			return res.GetAlreadyAbsent(), err
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("remove sandbox %s: %w", req.GetSandbox(), err)
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		}
	}
}

// command checks argv, which the parser hands over with its leading --.
func command(argv []string) ([]string, error) {
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, &usageError{message: "no command: write it after --, as in `sandbar run -- python3 -V`"}
	}
	return argv, nil
}
