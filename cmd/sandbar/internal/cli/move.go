package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// carryFlags say what of a sandbox is carried.
type carryFlags struct {
	keepFlags
	Path []string `sep:"none" help:"Folder or file to carry, absolute, again for more. Default: what the sandbox changed, if its provider can say." placeholder:"PATH"`
}

type moveCmd struct {
	carryFlags
	Provider   string   `required:"" help:"Provider to move it to." placeholder:"NAME"`
	Name       string   `help:"Name of the new sandbox. Default: that of the first, which gives it up when it ends." placeholder:"NAME"`
	Without    []string `help:"Do without what the other provider does not have: ${enum}; again or with commas for more." enum:"image,region,mounts,hostname,ports,size" placeholder:"PART"`
	KeepSource bool     `help:"Make a copy: do not end the sandbox."`
	Sandbox    string   `arg:"" help:"Id or name."`
}

// Help is shown below the flags.
func (*moveCmd) Help() string {
	return "Makes a sandbox with the same image, size, variables and labels on the other provider, carries the files, reads them back, and only then ends the first one. " +
		"When anything fails, the new one is removed and the first goes on as it was. Memory and processes never come along; what did not is said at the end."
}

// Run moves a sandbox and prints the id of the new one.
func (c *moveCmd) Run(ctx context.Context, a *app) error {
	if err := portable.Need(c.keeps()); err != nil {
		return err
	}
	sb, err := a.getSandbox(ctx, c.Sandbox, false)
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		return a.movedBefore(ctx, c.Sandbox, err)
	}
	if err != nil {
		return err
	}
	if c.done(sb) {
		return a.printMovedBefore(sb, c.Sandbox)
	}
	move, left, err := c.move(ctx, a, sb)
	if err != nil {
		return err
	}
	said, done := a.carrying()
	move.Said = said
	moved, err := move.Run(ctx)
	done()
	if err != nil {
		var failed *transfer.NotMovedError
		var interrupted *interruptedError
		if errors.As(err, &failed) && errors.As(err, &interrupted) {
			a.warn("%s", failed.Note) // of an interrupt alone nothing is said
		}
		return err
	}
	moved.Left = append(moved.Left, left...)
	return a.printMoved(sb, moved)
}

// done reports whether a name means what a move to the same provider has made: then
// this is its repetition.
func (c *moveCmd) done(sb *brokerv1.Sandbox) bool {
	return !c.KeepSource && (c.Name == "" || c.Name == c.Sandbox) &&
		sb.GetLabels()[transfer.MovedName] == c.Sandbox && sb.GetParentId() == "" && sb.GetProvider() == c.Provider
}

// move checks everything that can be known before anything is made.
func (c *moveCmd) move(ctx context.Context, a *app, sb *brokerv1.Sandbox) (*transfer.Move, []portable.Left, error) {
	req := transfer.Request(sb)
	left, err := transfer.Strip(req, c.Without)
	if err != nil {
		return nil, nil, err
	}
	req.Provider = c.Provider
	if c.Name != sb.GetName() || c.KeepSource {
		req.Name = c.Name
	}
	if err := a.canCarry(ctx, sb, c.Provider, len(c.Path) == 0); err != nil {
		return nil, nil, err
	}
	source, err := a.source(ctx, sb, c.Path)
	if err != nil {
		return nil, nil, err
	}
	if name := sb.GetName(); name != "" && req.GetName() != "" && !c.KeepSource {
		left = append(left, portable.NewLeft("name", fmt.Sprintf("the name %s was the first sandbox's while it lived; the new one is called %s", name, req.GetName())))
	}
	if req.GetLifetime() != nil {
		left = append(left, portable.NewLeft("lifetime", "the time until it is removed has begun anew"))
	}
	if req.GetSpec().GetImage().GetSource() == nil && c.Provider != sb.GetProvider() {
		left = append(left, portable.NewLeft("programs", fmt.Sprintf("no image was asked for, and the default of %s may have other programs than that of %s", c.Provider, sb.GetProvider())))
	}
	return &transfer.Move{Source: *source, Sandboxes: ownSandboxes{a}, Create: req, KeepSource: c.KeepSource}, left, nil
}

// source is what is to be read of a sandbox.
func (a *app) source(ctx context.Context, sb *brokerv1.Sandbox, paths []string) (*transfer.Source, error) {
	if len(paths) > 0 {
		scope, err := transfer.Named(paths)
		if err != nil {
			return nil, err
		}
		for _, p := range scope.Paths {
			// Before anything is made; a provider without fs.read says so later.
			if _, err := a.stat(ctx, sb.GetSandboxId(), p); fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) {
				return nil, err
			}
		}
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &transfer.Source{Files: cl, Sandbox: sb, Paths: paths, Running: a.running(ctx, sb.GetSandboxId())}, nil
}

// running counts the commands that are under way in a sandbox; 0 if nobody can say.
func (a *app) running(ctx context.Context, sandbox string) int {
	res, err := steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*providerv1.ListExecsResponse, error) {
		res, err := c.ListExecs(ctx, request(&providerv1.ListExecsRequest{Sandbox: ref(sandbox)}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
	n := 0
	for _, e := range res.GetExecs() {
		if err == nil && e.GetState() == providerv1.ExecState_EXEC_STATE_RUNNING {
			n++
		}
	}
	return n
}

// canCarry refuses providers that say that they cannot give or take files.
func (a *app) canCarry(ctx context.Context, sb *brokerv1.Sandbox, target string, changes bool) error {
	providers, err := a.started(ctx, target)
	if err != nil {
		return err
	}
	gives := []string{"archive.download"}
	if changes {
		gives = append(gives, "fs.diff")
	}
	for _, side := range []struct {
		provider string
		needs    []string
	}{{sb.GetProvider(), gives}, {target, []string{"archive.upload", "archive.download"}}} {
		if side.provider == "" {
			continue
		}
		p, err := findProvider(providers, side.provider)
		if err != nil {
			return err
		}
		for _, id := range side.needs {
			if err := declares(p, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// started lists the providers once the named one, if any, has said what it can do.
func (a *app) started(ctx context.Context, name string) ([]*brokerv1.Provider, error) {
	providers, err := a.listProviders(ctx)
	if err != nil || name == "" {
		return providers, err
	}
	p, err := findProvider(providers, name)
	if err != nil {
		return nil, err
	}
	if len(p.GetCapabilities()) > 0 {
		return providers, nil
	}
	if _, err := a.probe(ctx, name); err != nil {
		return nil, err
	}
	return a.listProviders(ctx)
}

// declares is nil too of a provider that has not said anything yet.
func declares(p *brokerv1.Provider, id string) error {
	if len(p.GetCapabilities()) == 0 {
		return nil
	}
	f := fault.Unsupported(id)
	for _, c := range p.GetCapabilities() {
		switch {
		case c.GetId() != id:
		case c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
			return nil
		default:
			f = fault.New(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED, "capability %s is switched off: %s", id, c.GetReason()).
				With(fault.MetaCapability, id).With("why", c.GetReason())
		}
	}
	f.Message = "provider " + p.GetName() + ": " + f.Message
	if id == "fs.diff" {
		f = f.With("remedy", "name what to carry with --path")
	}
	return f.With("provider", p.GetName())
}

// movedBefore answers the repetition of a move that has succeeded.
func (a *app) movedBefore(ctx context.Context, id string, missing error) error {
	if !strings.HasPrefix(id, "sbx_") {
		return missing
	}
	found, err := (ownSandboxes{a}).Labelled(ctx, transfer.MovedFrom, id)
	if err != nil {
		return missing
	}
	found = slices.DeleteFunc(found, func(sb *brokerv1.Sandbox) bool { return sb.GetParentId() != "" }) // forks have the labels of their parents
	if len(found) != 1 {
		return missing
	}
	return a.printMovedBefore(found[0], id)
}

func (a *app) printMovedBefore(sb *brokerv1.Sandbox, was string) error {
	a.warn("sandbox %s was moved to %s before", was, sb.GetProvider())
	return a.printSandboxes([]*brokerv1.Sandbox{sb}, true)
}

// ownSandboxes are the calls about sandboxes that a move makes.
type ownSandboxes struct{ app *app }

// Create implements transfer.Sandboxes.
func (o ownSandboxes) Create(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	return o.app.createOwned(ctx, req)
}

// Delete implements transfer.Sandboxes.
func (o ownSandboxes) Delete(ctx context.Context, sandbox, survivor, name string) error {
	_, err := o.app.removeWhile(ctx, &brokerv1.DeleteSandboxRequest{Sandbox: sandbox, Survivor: survivor, SurvivorName: name})
	return err
}

// Labelled implements transfer.Sandboxes.
func (o ownSandboxes) Labelled(ctx context.Context, key, value string) ([]*brokerv1.Sandbox, error) {
	return o.app.listSandboxes(ctx, &brokerv1.ListSandboxesRequest{Labels: map[string]string{key: value}, PageSize: listPage})
}

// movedJSON is a move under --json.
type movedJSON struct {
	Sandbox json.RawMessage `json:"sandbox"`
	Source  sourceJSON      `json:"source"`
	portable.Statement
}

type sourceJSON struct {
	portable.Source
	Ended bool `json:"ended"`
}

func (a *app) printMoved(from *brokerv1.Sandbox, moved *transfer.Moved) error {
	if a.JSON {
		raw, err := render.Raw(moved.Sandbox)
		if err != nil {
			return err
		}
		source := portable.Source{SandboxID: from.GetSandboxId(), Name: from.GetName(), Provider: from.GetProvider()}
		return render.Value(a.stdout, movedJSON{raw, sourceJSON{source, moved.Ended}, moved.Statement})
	}
	if err := a.out("%s", moved.Sandbox.GetSandboxId()); err != nil {
		return err
	}
	return stateTo(a.stderr, &moved.Statement)
}

// stateTo says what came along and what did not.
func stateTo(w io.Writer, s *portable.Statement) error {
	rows := make([][]string, 0, len(s.Left))
	for _, l := range s.Left {
		rows = append(rows, []string{l.What, why(l)})
	}
	return render.Table(w, []string{"came along", cameAlong(s)}, append([][]string{{"left behind", strconv.Itoa(len(rows)) + " things:"}}, rows...))
}

func cameAlong(s *portable.Statement) string {
	what := fmt.Sprintf("%d files, %d folders, %d links, %s", s.Files, s.Folders, s.Links, render.Bytes(s.Bytes))
	if s.Changes {
		return what + ", at " + strconv.Itoa(len(s.Paths)) + " paths that the sandbox had changed"
	}
	return what + ", at " + strings.Join(s.Paths, ", ")
}

func why(l portable.Left) string {
	if len(l.Names) == 0 {
		return l.Why
	}
	names := strings.Join(l.Names, ", ")
	if more := l.Total - len(l.Names); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return l.Why + ": " + names
}
