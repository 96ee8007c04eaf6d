package stage

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Command is one command in a sandbox.
type Command struct {
	t   *engine.T
	box *Box
	// ID is its exec id.
	ID string
	// Request started it; Exec is what that answered.
	Request *providerv1.StartExecRequest
	Exec    *providerv1.Exec
}

// Output is all that came out of a command.
type Output struct {
	t              *engine.T
	what           string
	Stdout, Stderr []byte
	// Sum is the SHA-256 of standard output where the attachment was Hashed, in
	// place of both.
	Sum  []byte
	Exit *providerv1.ExitStatus
	Done *providerv1.ExecDone
}

// Argv is a command with its arguments.
func Argv(argv ...string) *providerv1.ExecSpec { return &providerv1.ExecSpec{Argv: argv} }

// Script is a command that the guest's shell runs.
func Script(text string) *providerv1.ExecSpec { return Argv("sh", "-c", text) }

// Run runs a command to its end.
func (b *Box) Run(argv ...string) Output { return b.Start(Argv(argv...)).Wait() }

// Sh runs a script to its end.
func (b *Box) Sh(script string) Output { return b.Start(Script(script)).Wait() }

// Line is what a script prints, which must succeed, without the end of line.
func (b *Box) Line(script string) string {
	out := b.Sh(script)
	out.Code(0)
	return strings.TrimRight(string(out.Stdout), "\n")
}

// Ticks lets time pass inside, in n short steps: whatever else runs there, or on
// the same machine, gets its turns meanwhile, however busy that is.
func (b *Box) Ticks(n int) {
	b.Sh("i=0; while [ $i -lt " + strconv.Itoa(n) + " ]; do i=$((i+1)); sleep 0.05; done").Code(0)
}

// NewExec returns a request that starts a command.
func (b *Box) NewExec(spec *providerv1.ExecSpec) *providerv1.StartExecRequest {
	req := &providerv1.StartExecRequest{Sandbox: b.Ref, ExecId: NewID("exe"), Spec: spec}
	req.RequestDigest = provider.Digest(req)
	return req
}

// Start starts a command.
func (b *Box) Start(spec *providerv1.ExecSpec) *Command {
	b.t.Step("start %s", brief(spec))
	req := b.NewExec(spec)
	start := time.Now()
	resp, err := b.client.StartExec(b.t.Context(), req)
	if err != nil {
		b.t.Fatalf("StartExec of %s: %s: want it started", brief(spec), subject.Describe(err))
	}
	b.t.Measure("exec.start", time.Since(start))
	if got := resp.GetExec().GetExecId(); got != req.GetExecId() {
		b.t.Fatalf("StartExec answered exec_id %q: want %q", got, req.GetExecId())
	}
	return &Command{t: b.t, box: b, ID: req.GetExecId(), Request: req, Exec: resp.GetExec()}
}

// Known is the command that a request started.
func (b *Box) Known(req *providerv1.StartExecRequest) *Command {
	return &Command{t: b.t, box: b, ID: req.GetExecId(), Request: req}
}

// Named is a command of which nothing is known but its id.
func (b *Box) Named(id string) *Command {
	return b.Known(&providerv1.StartExecRequest{Sandbox: b.Ref, ExecId: id, Spec: Argv(id)})
}

// By is the same command through another client.
func (c *Command) By(box *Box) *Command {
	return &Command{t: c.t, box: box, ID: c.ID, Request: c.Request, Exec: c.Exec}
}

// Get asks for it.
func (c *Command) Get() *providerv1.Exec {
	resp, err := c.box.client.GetExec(c.t.Context(), &providerv1.GetExecRequest{Sandbox: c.box.Ref, ExecId: c.ID})
	if err != nil {
		c.t.Fatalf("GetExec: %s: want the command", subject.Describe(err))
	}
	return resp.GetExec()
}

// Signal sends a signal.
func (c *Command) Signal(signal providerv1.ExecSignal) {
	_, err := c.box.client.SignalExec(c.t.Context(), &providerv1.SignalExecRequest{Sandbox: c.box.Ref, ExecId: c.ID, Signal: signal})
	OK(c.t, "SignalExec "+signal.String(), err)
}

// Wait reads the command to its end from its first byte.
func (c *Command) Wait() Output { return c.Attach().Wait() }

func brief(spec *providerv1.ExecSpec) string {
	text := fmt.Sprintf("%q", spec.GetArgv())
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return text
}

// Code checks the exit code, and returns the output.
func (o Output) Code(want int32) Output {
	code, exited := o.Exit.GetResult().(*providerv1.ExitStatus_Code)
	if !exited || code.Code != want {
		o.t.Fatalf("%s ended with %s: want exit code %d\nstdout: %s\nstderr: %s",
			o.what, ExitText(o.Exit), want, Excerpt(o.Stdout), Excerpt(o.Stderr))
	}
	return o
}

// Killed checks that a signal ended the command.
func (o Output) Killed(want string) Output {
	if got, ok := o.Exit.GetResult().(*providerv1.ExitStatus_Signal); !ok || got.Signal != want {
		o.t.Fatalf("%s ended with %s: want signal %s", o.what, ExitText(o.Exit), want)
	}
	return o
}

// Cause checks whose doing the end was.
func (o Output) Cause(want providerv1.ExitCause) Output {
	if got := o.Exit.GetCause(); got != want {
		o.t.Errorf("%s ended with cause %s: want %s", o.what, got, want)
	}
	return o
}

// Out checks standard output.
func (o Output) Out(want string) Output {
	if !bytes.Equal(o.Stdout, []byte(want)) {
		o.t.Fatalf("%s: standard output is %s: want %s\nstderr: %s", o.what, Excerpt(o.Stdout), Excerpt([]byte(want)), Excerpt(o.Stderr))
	}
	return o
}

// Err checks standard error.
func (o Output) Err(want string) Output {
	if !bytes.Equal(o.Stderr, []byte(want)) {
		o.t.Fatalf("%s: standard error is %s: want %s", o.what, Excerpt(o.Stderr), Excerpt([]byte(want)))
	}
	return o
}

// ExitText puts an exit status into words.
func ExitText(e *providerv1.ExitStatus) string {
	var how string
	switch r := e.GetResult().(type) {
	case *providerv1.ExitStatus_Code:
		how = fmt.Sprintf("exit code %d", r.Code)
	case *providerv1.ExitStatus_Signal:
		how = "signal " + r.Signal
	default:
		how = "neither a code nor a signal"
	}
	return fmt.Sprintf("%s (%s%s)", how, strings.TrimPrefix(e.GetCause().String(), "EXIT_CAUSE_"), detail(e))
}

func detail(e *providerv1.ExitStatus) string {
	text := ""
	if e.GetOutOfMemory() {
		text = ", out of memory"
	}
	if e.GetDetail() != "" {
		text += ", " + e.GetDetail()
	}
	return text
}

// Excerpt is a piece of output for a message.
func Excerpt(b []byte) string {
	const most = 200
	if len(b) <= most {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
}
