package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/execio"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/load"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

type benchCmd struct {
	Mode        []load.Mode    `sep:"," default:"sequential,staggered,burst,exec,stream" enum:"sequential,staggered,burst,exec,stream" help:"What to measure: ${enum}." placeholder:"MODE,…"`
	Count       int            `short:"n" default:"20" help:"Sandboxes that each of sequential, staggered and burst makes." placeholder:"N"`
	Concurrency int            `short:"c" default:"100" help:"Sandboxes that may be alive at once." placeholder:"N"`
	Stagger     value.Duration `default:"200ms" help:"Time between two starts of staggered." placeholder:"TIME"`
	Execs       int            `default:"100" help:"Commands that exec runs." placeholder:"N"`
	StreamSize  value.Size     `default:"64MiB" help:"What stream transfers in each of 3 rounds." placeholder:"SIZE"`
	Timeout     value.Duration `default:"2m" help:"How long one sandbox, command or transfer may take." placeholder:"TIME"`
	Limit       value.Duration `default:"15m" help:"How long all of it may take; what was not tried by then has failed." placeholder:"TIME"`
	MinSuccess  float64        `default:"100" help:"Per cent of each measurement that must succeed." placeholder:"PERCENT"`
	Provider    string         `help:"Provider to measure; default: the broker chooses for each sandbox." placeholder:"NAME"`
	Image       string         `help:"OCI image, or template:NAME, or host." placeholder:"REF"`
	Region      string         `help:"Where to run, in the provider's words." placeholder:"REGION"`
	CPU         value.CPU      `name:"cpu" help:"CPUs of each sandbox." placeholder:"N"`
	Memory      value.Size     `help:"Memory of each sandbox." placeholder:"SIZE"`
}

// benchLabel marks the sandboxes of one run, so that a listing finds those too
// whose creation failed.
const benchLabel = "sandbar-bench"

const streamRounds = 3

// Help is shown below the flags.
func (*benchCmd) Help() string {
	return "It makes sandboxes on a real provider, which may cost money, and removes them. Exit code 1 if one of them is left, or if fewer than --min-success succeeded."
}

// Run measures and prints a Markdown table.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	if c.MinSuccess < 0 || c.MinSuccess > 100 {
		return badFlag("min-success", fmt.Sprint(c.MinSuccess), "is not a percentage; write one from 0 to 100")
	}
	plan := load.Plan{
		Modes: c.Mode, Count: c.Count, Concurrency: c.Concurrency, Stagger: time.Duration(c.Stagger), Timeout: time.Duration(c.Timeout),
		Limit: time.Duration(c.Limit), Execs: c.Execs, StreamBytes: int64(c.StreamSize), StreamRounds: streamRounds,
	}
	if err := plan.Check(); err != nil {
		return &usageError{message: err.Error(), command: "sandbar bench"}
	}
	if _, err := a.connect(ctx); err != nil {
		return err
	}
	target := &benchTarget{app: a, run: randomID(), request: c.request()}
	show, done := a.benchProgress()
	report, err := (&load.Runner{Target: target, Plan: plan, OnProgress: show}).Run(ctx)
	done()
	if report != nil {
		report.Facts = c.facts(ctx, a)
	}
	if err != nil {
		var interrupted *interruptedError
		if errors.As(err, &interrupted) && report != nil && len(report.Leaked) > 0 {
			a.warn("%s", report.Failure(0))
		}
		return err
	}
	write := report.WriteMarkdown
	if a.JSON {
		write = func(w io.Writer) error { return render.Value(w, report) }
	}
	if err := write(a.stdout); err != nil {
		return err
	}
	if failure := report.Failure(c.MinSuccess / 100); failure != "" {
		a.warn("%s", failure)
		return exitError(codeFailure)
	}
	return nil
}

// request is what each sandbox is asked for with. Its lifetime ends it should this
// process be killed.
func (c *benchCmd) request() *brokerv1.CreateSandboxRequest {
	spec := &providerv1.SandboxSpec{Image: image.Parse(c.Image), Region: c.Region}
	if c.CPU != 0 || c.Memory != 0 {
		spec.Resources = &providerv1.Resources{CpuMillis: int64(c.CPU), MemoryBytes: int64(c.Memory)}
	}
	const spare = 10 * time.Minute
	return &brokerv1.CreateSandboxRequest{Provider: c.Provider, Spec: spec, Lifetime: durationpb.New(time.Duration(c.Limit) + spare)}
}

// facts say what was measured, for whoever finds the table.
func (c *benchCmd) facts(ctx context.Context, a *app) map[string]string {
	out := map[string]string{
		"client": "sandbar " + a.version, "date": a.now().UTC().Format(time.DateOnly), "provider": "chosen by the broker",
		"plan": fmt.Sprintf("%d sandboxes, at most %d at once, staggered by %v, %v for each", c.Count, c.Concurrency, time.Duration(c.Stagger), time.Duration(c.Timeout)),
	}
	if c.Provider != "" {
		out["provider"] = c.Provider
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signalLimit)
	defer cancel()
	if res, err := a.client.Admin.GetServer(ctx, request(&brokerv1.GetServerRequest{})); err == nil {
		out["broker"] = "sandbar " + res.Msg.GetVersion()
	}
	return out
}

// benchProgress shows on a terminal how far a measurement is.
func (a *app) benchProgress() (show func(load.Progress), done func()) {
	if !terminal.Is(a.stderr) || a.JSON {
		return nil, func() {}
	}
	return func(p load.Progress) {
			fmt.Fprintf(a.stderr, "\r\x1b[Ksandbar: %s, %d of %d", p.Mode, p.Done, p.Total)
			if p.Failed > 0 {
				fmt.Fprintf(a.stderr, ", %d failed", p.Failed)
			}
		}, func() {
			fmt.Fprint(a.stderr, "\r\x1b[K")
		}
}

// benchTarget is the broker under measurement. It repeats no call: what fails
// counts as failed.
type benchTarget struct {
	app     *app
	run     string
	request *brokerv1.CreateSandboxRequest
}

// Create implements load.Target. Without an idempotency key the broker removes
// what is made for a caller that has left.
func (t *benchTarget) Create(ctx context.Context) (string, error) {
	req := proto.CloneOf(t.request)
	req.Labels = map[string]string{benchLabel: t.run}
	res, err := t.app.client.CreateSandbox(ctx, request(req))
	if err != nil {
		return "", err
	}
	id := res.Msg.GetSandbox().GetSandboxId()
	_, err = t.app.usable(ctx, res.Msg.GetSandbox())
	return id, err
}

// Exec implements load.Target.
func (t *benchTarget) Exec(ctx context.Context, id string, argv []string, stdout io.Writer) error {
	if stdout == nil {
		stdout = io.Discard
	}
	exec := newExecID()
	_, err := t.app.client.StartExec(ctx, request(&providerv1.StartExecRequest{Sandbox: ref(id), ExecId: exec, Spec: &providerv1.ExecSpec{Argv: argv}}))
	if err != nil {
		return err
	}
	res, err := execio.Attach(ctx, execio.Options{
		Sandbox: id, ExecID: exec, Stdout: stdout, Stderr: io.Discard,
		Open: func(ctx context.Context) (session.Transport, error) {
			return attachStream{t.app.client.AttachExec(ctx)}, nil
		},
	})
	if err != nil {
		return err
	}
	if code, sentence := exitCode(res.Exit); code != 0 || res.Missing != (execio.Offsets{}) {
		return fmt.Errorf("%s ended with code %d, %d bytes are missing %s", argv[0], code, res.Missing.Stdout+res.Missing.Stderr, sentence)
	}
	return nil
}

// Remove implements load.Target.
func (t *benchTarget) Remove(ctx context.Context, id string) error {
	_, err := t.app.remove(ctx, id)
	return err
}

// List implements load.Target.
func (t *benchTarget) List(ctx context.Context) ([]string, error) {
	all, err := t.app.listSandboxes(ctx, &brokerv1.ListSandboxesRequest{Labels: map[string]string{benchLabel: t.run}, PageSize: listPage})
	out := make([]string, 0, len(all))
	for _, sb := range all {
		out = append(out, sb.GetSandboxId())
	}
	return out, err
}
