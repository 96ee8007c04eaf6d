package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/execio"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// insist is how soon a repeated interrupt means "kill it".
	insist = 2 * time.Second
	// signalLimit bounds one attempt to deliver a signal.
	signalLimit = 10 * time.Second
)

// streamFlags say how a command's streams are connected.
type streamFlags struct {
	TTY   *bool `name:"tty" short:"t" negatable:"" help:"Give the command a terminal. Default: if both standard input and output are terminals."`
	Stdin *bool `name:"stdin" short:"i" negatable:"" help:"Pass standard input on. Default: if it is not a terminal, or the command has one."`
}

// execution is one command whose streams are this process's own.
type execution struct {
	app     *app
	sandbox string
	execID  string
	spec    *providerv1.ExecSpec
	tty     bool
	stdin   bool

	lost   atomic.Bool
	abort  context.CancelCauseFunc
	wg     sync.WaitGroup
	queue  chan providerv1.ExecSignal
	sizes  chan *providerv1.Terminal
	hungUp chan struct{}
	hangUp sync.Once
	last   map[os.Signal]time.Time
	counts int
}

// newExecution decides on terminal and input, and fails before anything was
// created if they cannot be had.
func newExecution(a *app, flags *streamFlags, spec *providerv1.ExecSpec) (*execution, error) {
	inTTY, outTTY := terminal.Is(a.stdin), terminal.Is(a.stdout)
	tty := inTTY && outTTY
	if flags.TTY != nil {
		if *flags.TTY && !inTTY {
			return nil, &usageError{message: "--tty needs a terminal, and standard input is none; leave it out or use --no-tty"}
		}
		tty = *flags.TTY
	}
	stdin := !inTTY || tty
	if flags.Stdin != nil {
		stdin = *flags.Stdin
	}
	e := &execution{
		app: a, spec: spec, tty: tty, stdin: stdin, execID: newExecID(),
		queue: make(chan providerv1.ExecSignal, 16), sizes: make(chan *providerv1.Terminal, 1),
		last: map[os.Signal]time.Time{}, hungUp: make(chan struct{}),
	}
	spec.Stdin = stdin
	if tty {
		spec.Terminal = terminal.Size(a.stdin)
		spec.Env = maps.Clone(spec.GetEnv())
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		if _, set := spec.Env["TERM"]; !set {
			spec.Env["TERM"] = cmp.Or(a.getenv("TERM"), "xterm")
		}
	}
	return e, nil
}

// run starts the command, carries its streams to the end, and returns how it
// ended as an exitError, or nil for code 0.
func (e *execution) run(ctx context.Context, sandbox string) error {
	e.sandbox = sandbox
	if err := e.start(ctx); err != nil {
		return err
	}
	ctx, e.abort = context.WithCancelCause(ctx)
	defer e.abort(nil)
	var raw *terminal.Raw
	if e.tty {
		var err error
		if raw, err = terminal.MakeRaw(e.app.stdin); err != nil {
			return err
		}
		defer func() { _ = raw.Restore() }()
	}
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.wg.Go(func() { e.deliver(sctx) })
	e.wg.Go(func() { e.afterHangUp(sctx) })
	restore := e.app.signals.handle(e.onSignal)
	res, werr, err := e.attach(ctx)
	restore()
	stop()
	e.wg.Wait()
	_ = raw.Restore()
	if err != nil {
		e.sayShown(ctx, res)
		return err
	}
	return e.verdict(res, werr)
}

// sayShown says how far the output got that the command's end was not the end of.
func (e *execution) sayShown(ctx context.Context, res *execio.Result) {
	if ctx.Err() != nil || res == nil {
		return
	}
	e.app.warn("the output is shown up to byte %d of standard output and byte %d of standard error; what came after that is missing",
		max(res.Shown.Stdout, 0), max(res.Shown.Stderr, 0))
}

// start starts the command. An interrupted start is undone: nobody would ever
// attach to it.
func (e *execution) start(ctx context.Context) error {
	_, err := steady(ctx, e.app, quickCall, func(ctx context.Context, c *client.Client) (*providerv1.Exec, error) {
		res, err := c.StartExec(ctx, request(&providerv1.StartExecRequest{
			Sandbox: ref(e.sandbox), ExecId: e.execID, Spec: e.spec,
		}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetExec(), nil
	})
	if err != nil && ctx.Err() != nil {
		kctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signalLimit)
		defer cancel()
		// Best effort: the command may not have started, and then there is nothing to kill.
		_ = e.signal(kctx, providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	}
	return startVerdict(e.app, err)
}

// startVerdict gives the shell's codes to a provider that refuses to start what
// does not exist or may not be run.
func startVerdict(a *app, err error) error {
	switch {
	case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND):
		a.warn("%s", oneLine(err.Error()))
		return exitError(codeNotFound)
	case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED):
		a.warn("%s", oneLine(err.Error()))
		return exitError(codeNotExecutable)
	}
	return err
}

// attach carries the streams. The second result is a failure to write our own
// output.
func (e *execution) attach(ctx context.Context) (*execio.Result, error, error) {
	out := &output{file: e.app.stdout, broken: e.outputBroken}
	o := execio.Options{
		Sandbox: e.sandbox, ExecID: e.execID, Open: e.app.openAttach,
		Stdout: out, Resize: e.sizes,
		OnLost: func(err error) {
			if !e.lost.Swap(true) && e.tty {
				fmt.Fprintf(e.app.stderr, "\r\n[sandbar: connection lost, attaching again]\r\n")
			}
		},
		OnAttached: func() { e.lost.Store(false) },
	}
	errOut := &output{file: e.app.stderr, broken: func(error) {}}
	if !e.tty {
		o.Stderr = errOut
	}
	if e.stdin {
		in, err := terminal.NewInput(e.app.stdin)
		if err != nil {
			return nil, nil, err
		}
		defer in.Release()
		o.Stdin, o.CloseStdin = &typed{Input: in, e: e}, in.Close
	}
	res, err := execio.Attach(ctx, o)
	return res, out.failure(), err
}

// openAttach opens an attachment, on a broker that is started if it is gone.
func (a *app) openAttach(ctx context.Context) (session.Transport, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return attachStream{c.AttachExec(ctx)}, nil
}

// verdict turns the end of a command into the end of this process.
func (e *execution) verdict(res *execio.Result, writeErr error) error {
	exit := res.Exit
	code, sentence := exitCode(exit)
	if sentence != "" {
		e.app.warn("%s", sentence)
	}
	if lost := res.Missing; lost.Stdout+lost.Stderr > 0 {
		e.app.warn("%d bytes of standard output and %d of standard error are missing above; the command itself ended with code %d", lost.Stdout, lost.Stderr, code)
		code = codeIncomplete
	}
	if writeErr != nil && !errors.Is(writeErr, syscall.EPIPE) {
		return fmt.Errorf("write standard output: %w", writeErr)
	}
	if code == 0 {
		return nil
	}
	return exitError(code)
}

// exitCode returns the shell's code for an exit status, and what to say where
// the code alone would mislead.
func exitCode(s *providerv1.ExitStatus) (code int, sentence string) {
	switch r := s.GetResult().(type) {
	case *providerv1.ExitStatus_Code:
		code = int(r.Code)
	case *providerv1.ExitStatus_Signal:
		if n := signalNumber(r.Signal); n > 0 {
			code = 128 + n
		} else {
			code, sentence = codeInfrastructure, "the command was ended by "+oneLine(r.Signal)
		}
	default:
		code = codeInfrastructure
	}
	detail := func(s string, d string) string {
		if d == "" {
			return s
		}
		return s + ": " + oneLine(d)
	}
	switch {
	case s.GetOutOfMemory():
		sentence = detail("the command was killed because it ran out of memory", s.GetDetail())
	case s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_TIMEOUT:
		sentence = detail("the command was killed because its timeout had passed", s.GetDetail())
	case s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_SANDBOX:
		sentence = detail("the command ended with its sandbox", s.GetDetail())
	case s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_PROVIDER:
		sentence = detail("the provider failed", s.GetDetail())
	case s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN, s.GetResult() == nil:
		sentence = detail("how the command ended is not known", s.GetDetail())
	case code == codeNotFound || code == codeNotExecutable:
		sentence = oneLine(s.GetDetail())
	}
	unsure := s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN || s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_PROVIDER ||
		s.GetCause() == providerv1.ExitCause_EXIT_CAUSE_SANDBOX
	if code == 0 && unsure {
		code = codeInfrastructure
	}
	return code, sentence
}
