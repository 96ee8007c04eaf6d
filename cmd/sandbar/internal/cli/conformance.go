package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

// Exit codes of sandbar conformance; see the package comment.
const (
	codeNotConformant = 1
	codePartial       = 2
	codeSuite         = 3
)

type conformanceCmd struct {
	Run     conformanceRunCmd     `cmd:"" help:"Test a provider and report what it keeps of the contract."`
	List    conformanceListCmd    `cmd:"" aliases:"ls" help:"List the cases."`
	Explain conformanceExplainCmd `cmd:"" help:"Show what a case checks, and which bugs it was seen to find."`
	Verify  conformanceVerifyCmd  `cmd:"" help:"Check that a report is whole and true of a plugin binary."`
	Report  conformanceReportCmd  `cmd:"" help:"Make one page or table from several reports."`
	Mutate  conformanceMutateCmd  `cmd:"" help:"Test the suite itself: every case must find the bug it is for."`
	Key     conformanceKeyCmd     `cmd:"" help:"Make a key to sign reports with."`
}

type conformanceRunCmd struct {
	Plugin   string `xor:"target" placeholder:"PATH" type:"path" help:"Binary to test, named sandbar-provider-NAME."`
	Broker   bool   `xor:"target" help:"Test a provider through a running broker's API: your own, or that of --address."`
	Address  string `placeholder:"ADDRESS" help:"With --broker: unix:///path or https://host. A key for it comes from SANDBAR_API_KEY."`
	Provider string `placeholder:"NAME" help:"With --broker: the provider to test."`
	Config   string `short:"c" type:"path" placeholder:"FILE" help:"YAML with settings, secrets and inputs; see below."`

	Profile []string `placeholder:"NAME,…" help:"Profiles to run; default: all."`
	Case    []string `placeholder:"PATTERN,…" help:"Cases to run, such as 'exec/*'; default: all."`
	Skip    []string `sep:"none" placeholder:"ID=WHY" help:"Leave out a case and say why; can be repeated."`
	Known   string   `name:"known-failures" type:"path" placeholder:"FILE" help:"Cases that are known to fail, one on each line: ID expires=YYYY-MM-DD issue=URL # why."`
	Input   []string `sep:"none" placeholder:"NAME=VALUE" help:"Something that some cases need, such as image; can be repeated."`

	Report   []string `placeholder:"KIND=FILE,…" help:"Files to write: json, junit, md, html, badge."`
	SignKey  string   `type:"path" placeholder:"FILE" help:"Private key to sign the report with; see sandbar conformance key."`
	Parallel int      `default:"4" help:"How many cases run at once."`
	Slow     int      `default:"1" help:"Wait so many times longer than usual for everything, on a machine that is slow or busy." placeholder:"TIMES"`
	Seed     uint64   `help:"Repeats the order and the random numbers of an earlier run; default: random."`
	Trace    bool     `help:"Keep every call in the report, not only those of failures."`
	MaxCost  int      `placeholder:"SECONDS" help:"Refuse to run cases that could take more sandbox-seconds than this."`
}

// Help is shown below the flags.
func (*conformanceRunCmd) Help() string {
	return `Ends with 0 if the provider is conformant, 1 if it is not, 2 if nothing was found wrong but not everything was run, and 3 if the suite could not do its work.

The file of --config looks like this:

  settings: {region: eu-1}
  secrets: {token: {file: /run/secrets/token}}
  inputs: {image: "docker.io/library/alpine:3.22"}`
}

// Run tests one target.
func (c *conformanceRunCmd) Run(ctx context.Context, a *app) error {
	files, err := parseOutputs(c.Report)
	if err != nil {
		return err
	}
	opts, setup, err := c.options(a)
	if err != nil {
		return err
	}
	key, err := readKey("sign-key", c.SignKey)
	if err != nil {
		return err
	}
	target, err := c.target(ctx, a, setup)
	if err != nil {
		return err
	}
	line := a.caseLine()
	opts.Observe = func(p conformance.Progress) {
		if ctx.Err() == nil { // what comes after an interruption was cut, and says nothing
			line.observe(p)
		}
	}
	r, err := conformance.Run(ctx, target, opts)
	line.clear()
	if err != nil {
		return interruptedOr(ctx, suiteError{err})
	}
	if key != "" {
		if err := r.Sign(key); err != nil {
			return err
		}
	}
	if err := files.write(r); err != nil {
		return err
	}
	if err := a.printReport(r); err != nil {
		return err
	}
	return verdictCode(r)
}

// interruptedOr is why a run has no result: its interruption, if that is why.
func interruptedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// verdictCode ends the process as the verdict says. Only a run with MUST cases
// that were executed can end with 0.
func verdictCode(r *report.Report) error {
	_, executed := r.Totals()
	switch {
	case r.Verdict == report.Conformant && executed > 0:
		return nil
	case r.Verdict == report.Not:
		return exitError(codeNotConformant)
	default:
		return exitError(codePartial)
	}
}

// target is what the flags name.
func (c *conformanceRunCmd) target(ctx context.Context, a *app, setup conformance.Setup) (conformance.Target, error) {
	switch {
	case c.Plugin != "" && (c.Provider != "" || c.Address != ""):
		return conformance.Target{}, &usageError{message: "--provider and --address go with --broker", command: "sandbar conformance run"}
	case c.Plugin != "":
		return conformance.Binary(c.Plugin, setup), nil
	case !c.Broker:
		return conformance.Target{}, &usageError{message: "nothing to test: want --plugin PATH, or --broker with --provider NAME", command: "sandbar conformance run"}
	case c.Provider == "":
		return conformance.Target{}, &usageError{message: "--broker needs --provider NAME", command: "sandbar conformance run"}
	}
	return c.brokerTarget(ctx, a)
}

// options reads what the flags say.
func (c *conformanceRunCmd) options(a *app) (conformance.Options, conformance.Setup, error) {
	opts := conformance.Options{
		Profiles: c.Profile, Cases: c.Case, Skip: map[string]string{}, Seed: c.Seed, Parallel: c.Parallel, Slow: c.Slow, Trace: c.Trace,
		MaxCost: c.MaxCost, Inputs: map[string]string{},
	}
	if c.Parallel < 1 {
		return opts, conformance.Setup{}, badFlag("parallel", strconv.Itoa(c.Parallel), "is no number of cases; write 1 or more")
	}
	if c.Slow < 1 {
		return opts, conformance.Setup{}, badFlag("slow", strconv.Itoa(c.Slow), "is no number of times; write 1 or more")
	}
	var setup conformance.Setup
	if c.Config != "" {
		plan, err := readPlan(c.Config, a.lookupEnv)
		if err != nil {
			return opts, setup, err
		}
		setup.Settings, setup.Secrets, opts.Inputs = plan.settings, plan.secrets, plan.inputs
	}
	if err := pairs(opts.Inputs, "input", c.Input, "NAME=VALUE"); err != nil {
		return opts, setup, err
	}
	if err := pairs(opts.Skip, "skip", c.Skip, "ID=WHY"); err != nil {
		return opts, setup, err
	}
	if c.Known == "" {
		return opts, setup, nil
	}
	f, err := os.Open(c.Known)
	if err != nil {
		return opts, setup, fmt.Errorf("known failures: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	opts.KnownFailures, err = conformance.ParseKnownFailures(f, c.Known)
	return opts, setup, err
}

// pairs reads NAME=VALUE flags into a map.
func pairs(into map[string]string, flag string, values []string, want string) error {
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" || value == "" {
			return badFlag(flag, v, "is not "+want)
		}
		into[name] = value
	}
	return nil
}

// maxKey is far above any key, and keeps a wrong path from filling memory.
const maxKey = 4 << 10

// readKey reads a key of one line from a file; no file is no key.
func readKey(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	defer func() { _ = f.Close() }() // only read
	raw, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// caseLine shows progress on a terminal, and failures everywhere.
type caseLine struct {
	a     *app
	shown bool
}

func (a *app) caseLine() *caseLine { return &caseLine{a: a, shown: terminal.Is(a.stderr) && !a.JSON} }

func (l *caseLine) clear() {
	if l.shown {
		fmt.Fprint(l.a.stderr, "\r\x1b[K")
	}
}

// observe is called with each case that has ended.
func (l *caseLine) observe(p conformance.Progress) {
	switch p.Case.Outcome {
	case report.Pass, report.Skip, report.KnownFail:
	default:
		l.clear()
		if !l.a.JSON {
			fmt.Fprintln(l.a.stderr, printable(p.Case.Text(p.Rerun)))
		}
	}
	if l.shown {
		fmt.Fprintf(l.a.stderr, "\r\x1b[K%d/%d %s", p.Done, p.Total, p.Case.ID)
	}
}

// printable keeps what a plugin said from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			return '?'
		}
		return r
	}, s)
}

// printReport shows the verdicts, or all of it as JSON.
func (a *app) printReport(r *report.Report) error {
	if a.JSON {
		return report.WriteJSON(a.stdout, r)
	}
	rows := make([][]string, 0, len(r.Profiles))
	for _, p := range r.Profiles {
		n := p.Counts
		rows = append(rows, []string{
			p.Name, string(p.Verdict), strconv.Itoa(n.Pass), strconv.Itoa(n.Fail + n.UnexpectedPass), strconv.Itoa(n.KnownFail),
			strconv.Itoa(n.Skip), strconv.Itoa(n.Error), p.Reason,
		})
	}
	if err := render.Table(a.stdout, []string{"PROFILE", "VERDICT", "PASS", "FAIL", "KNOWN", "SKIP", "ERROR", "WHY"}, rows); err != nil {
		return err
	}
	all, executed := r.Totals()
	took := time.Duration(r.Run.DurationMS * float64(time.Millisecond)).Round(100 * time.Millisecond)
	warned := ""
	if all.Warn > 0 {
		warned = fmt.Sprintf(", %d of the failures only warn", all.Warn)
	}
	return a.out("\n%s %s (%s): %s\n%d MUST cases executed%s, in %s with %s",
		render.Cell(r.Plugin.Name), render.Cell(r.Plugin.Version), r.Plugin.Target, r.Summary(), executed, warned, took, r.Run.Told())
}

type conformanceKeyCmd struct {
	Name string `arg:"" help:"Whose key it is: one word, such as example.com."`
	File string `arg:"" type:"path" help:"File for the private key. The public one is printed."`
}

// Run makes a key. It overwrites nothing.
func (c *conformanceKeyCmd) Run(a *app) error {
	private, public, err := report.NewKey(c.Name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("the private key: %w", err)
	}
	_, err = fmt.Fprintln(f, private)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the private key: %w", err)
	}
	return a.out("%s", public)
}
