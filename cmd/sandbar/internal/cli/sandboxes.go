package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

// listPage is how many rows one listing call asks for.
const listPage = 500

type createCmd struct {
	specFlags
	From   string `help:"Portable snapshot to begin with; what is given here wins over what it says." placeholder:"FILE"`
	DryRun bool   `help:"Show which providers could make it and which one would, and make nothing."`
}

// Run creates a sandbox and prints its id.
func (c *createCmd) Run(ctx context.Context, a *app) error {
	req, err := c.request(a)
	if err != nil {
		return err
	}
	if c.From != "" {
		return a.createFrom(ctx, c.From, req, c.DryRun)
	}
	if c.DryRun {
		return a.plan(ctx, req)
	}
	if req.GetName() == "" {
		// A name of our own lets an interrupted creation be undone.
		req.Name = "sb-" + randomID()[:10]
	}
	sb, err := a.createOwned(ctx, req)
	if err != nil {
		return err
	}
	return a.printSandboxes([]*brokerv1.Sandbox{sb}, true)
}

// printSandboxes prints ids for people, and the whole for programs: one object
// if single, else an array.
func (a *app) printSandboxes(sandboxes []*brokerv1.Sandbox, single bool) error {
	switch {
	case a.JSON && single && len(sandboxes) == 1:
		return render.Message(a.stdout, sandboxes[0])
	case a.JSON:
		return render.Messages(a.stdout, sandboxes)
	}
	for _, sb := range sandboxes {
		if err := a.out("%s", sb.GetSandboxId()); err != nil {
			return err
		}
	}
	return nil
}

type lsCmd struct {
	Label    []string `short:"l" sep:"none" help:"Only with this label." placeholder:"NAME=VALUE"`
	Provider string   `help:"Only on this provider." placeholder:"NAME"`
	State    []string `help:"Only in this state, such as running or paused." placeholder:"STATE"`
	Quiet    bool     `short:"q" help:"Print ids only."`
}

// Run lists sandboxes, the newest first.
func (c *lsCmd) Run(ctx context.Context, a *app) error {
	req, err := c.filter()
	if err != nil {
		return err
	}
	sandboxes, err := a.listSandboxes(ctx, req)
	if err != nil {
		return err
	}
	if a.JSON || c.Quiet {
		return a.printSandboxes(sandboxes, false)
	}
	rows := make([][]string, 0, len(sandboxes)+1)
	rows = append(rows, []string{"ID", "NAME", "PROVIDER", "STATE", "CREATED", "EXPIRES", "LABELS"})
	for _, sb := range sandboxes {
		rows = append(rows, []string{
			sb.GetSandboxId(), sb.GetName(), sb.GetProvider(), state(sb),
			render.Ago(a.now(), sb.GetCreatedAt()), render.Until(a.now(), sb.GetExpiresAt()), render.Pairs(sb.GetLabels()),
		})
	}
	if a.ActingTenant == authz.AllTenants { // names alone would not tell them apart
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, sb := range sandboxes {
			rows[i+1] = append([]string{sb.GetTenant()}, rows[i+1]...)
		}
	}
	return render.Table(a.stdout, rows[0], rows[1:])
}

func (c *lsCmd) filter() (*brokerv1.ListSandboxesRequest, error) {
	labels, err := value.Labels(c.Label)
	if err != nil {
		return nil, &usageError{message: "--label: " + err.Error()}
	}
	req := &brokerv1.ListSandboxesRequest{Labels: labels, Provider: c.Provider, PageSize: listPage}
	for _, s := range c.State {
		n, ok := providerv1.SandboxState_value["SANDBOX_STATE_"+strings.ToUpper(s)]
		if !ok || n == 0 {
			return nil, badFlag("state", s, "is not a state; use creating, running, pausing, paused, resuming, deleting, failed or unknown")
		}
		req.States = append(req.States, providerv1.SandboxState(n))
	}
	return req, nil
}

func (a *app) listSandboxes(ctx context.Context, req *brokerv1.ListSandboxesRequest) ([]*brokerv1.Sandbox, error) {
	var out []*brokerv1.Sandbox
	for {
		page, err := steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*brokerv1.ListSandboxesResponse, error) {
			res, err := c.ListSandboxes(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetSandboxes()...)
		if page.GetNextPageToken() == "" {
			return out, nil
		}
		req.PageToken = page.GetNextPageToken()
	}
}

func state(sb *brokerv1.Sandbox) string { return render.Enum(sb.GetState(), "SANDBOX_STATE_") }

type getCmd struct {
	Refresh bool   `help:"Ask the provider now instead of answering from memory."`
	Sandbox string `arg:"" help:"Id or name."`
}

// Run shows one sandbox.
func (c *getCmd) Run(ctx context.Context, a *app) error {
	sb, err := a.getSandbox(ctx, c.Sandbox, c.Refresh)
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, sb)
	}
	return render.Table(a.stdout, []string{"id", sb.GetSandboxId()}, a.describe(sb))
}

func (a *app) getSandbox(ctx context.Context, sandbox string, refresh bool) (*brokerv1.Sandbox, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*brokerv1.Sandbox, error) {
		res, err := c.GetSandbox(ctx, request(&brokerv1.GetSandboxRequest{Sandbox: sandbox, Refresh: refresh}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandbox(), nil
	})
}

func (a *app) describe(sb *brokerv1.Sandbox) [][]string {
	now, res := a.now(), sb.GetObserved().GetResources()
	rows := [][]string{
		{"name", sb.GetName()},
		{"provider", sb.GetProvider()},
		{"state", state(sb)},
		{"reason", sb.GetStatusReason()},
		{"image", image.Text(sb.GetSpec().GetImage())},
		{"created", render.Ago(now, sb.GetCreatedAt())},
		{"expires", render.Until(now, sb.GetExpiresAt())},
		{"last used", render.Ago(now, sb.GetLastActiveAt())},
		{"made from", sb.GetParentId()},
		{"labels", render.Pairs(sb.GetLabels())},
		{"vendor id", sb.GetObserved().GetVendorId()},
		{"region", sb.GetObserved().GetRegion()},
		{"egress", render.Enum(sb.GetObserved().GetEgressStrength(), "EGRESS_STRENGTH_")},
	}
	for _, r := range []struct {
		name string
		text string
		n    int64
	}{
		{"cpu", fmt.Sprintf("%g", float64(res.GetCpuMillis())/1000), res.GetCpuMillis()},
		{"memory", render.Bytes(res.GetMemoryBytes()), res.GetMemoryBytes()},
		{"disk", render.Bytes(res.GetDiskBytes()), res.GetDiskBytes()},
		{"pids", strconv.FormatInt(res.GetPids(), 10), res.GetPids()},
	} {
		if r.n != 0 {
			rows = append(rows, []string{r.name, r.text})
		}
	}
	for _, m := range sb.GetSpec().GetMounts() {
		rows = append(rows, []string{"mount", fmt.Sprintf("%s at %s %s",
			m.GetHostPath()+m.GetVolume(), m.GetTarget(), render.Enum(m.GetMode(), "MOUNT_MODE_"))})
	}
	kept := rows[:0]
	for _, r := range rows {
		if r[1] != "" {
			kept = append(kept, r)
		}
	}
	return kept
}

type rmCmd struct {
	All     bool     `help:"Remove every sandbox there is."`
	Sandbox []string `arg:"" optional:"" help:"Ids or names."`
}

// Run removes sandboxes; removing an absent one is a success.
func (c *rmCmd) Run(ctx context.Context, a *app) error {
	if c.All == (len(c.Sandbox) > 0) {
		return &usageError{message: "name the sandboxes to remove, or use --all, and not both"}
	}
	names := c.Sandbox
	if c.All {
		all, err := a.listSandboxes(ctx, &brokerv1.ListSandboxesRequest{PageSize: listPage})
		if err != nil {
			return err
		}
		for _, sb := range all {
			names = append(names, sb.GetSandboxId())
		}
	}
	return a.removeEach("sandbox", names, func(name string) (bool, error) { return a.remove(ctx, name) })
}

// keepFlags say the least that must survive.
type keepFlags struct {
	Require string `help:"The least that must be kept: ${enum}. Less is refused, never done silently." enum:"disk,memory,processes" default:"disk"`
}

func (f *keepFlags) keeps() *providerv1.Keeps {
	return &providerv1.Keeps{Disk: true, Memory: f.Require != "disk", Processes: f.Require == "processes"}
}

type pauseCmd struct {
	keepFlags
	Sandbox string `arg:"" help:"Id or name."`
}

// Run pauses a sandbox.
func (c *pauseCmd) Run(ctx context.Context, a *app) error {
	return a.change(ctx, "pausing", func(ctx context.Context, cl *client.Client) (*brokerv1.Sandbox, error) {
		res, err := cl.PauseSandbox(ctx, request(&brokerv1.PauseSandboxRequest{Sandbox: c.Sandbox, Minimum: c.keeps()}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandbox(), nil
	})
}

type resumeCmd struct {
	Sandbox string `arg:"" help:"Id or name."`
}

// Run resumes a paused sandbox.
func (c *resumeCmd) Run(ctx context.Context, a *app) error {
	return a.change(ctx, "resuming", func(ctx context.Context, cl *client.Client) (*brokerv1.Sandbox, error) {
		res, err := cl.ResumeSandbox(ctx, request(&brokerv1.ResumeSandboxRequest{Sandbox: c.Sandbox}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetSandbox(), nil
	})
}

// change runs a call that answers with the sandbox as it is then.
func (a *app) change(ctx context.Context, what string, call func(context.Context, *client.Client) (*brokerv1.Sandbox, error)) error {
	done := a.progress(what + " the sandbox")
	sb, err := steady(ctx, a, longCall, call)
	done()
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, sb)
	}
	text := state(sb)
	if kept := sb.GetObserved().GetKept(); kept != nil && sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		text += ", kept: " + keptText(kept)
	}
	return a.out("%s %s", sb.GetSandboxId(), text)
}

func keptText(k *providerv1.Keeps) string {
	var parts []string
	for _, p := range []struct {
		name string
		kept bool
	}{{"disk", k.GetDisk()}, {"memory", k.GetMemory()}, {"processes", k.GetProcesses()}} {
		if p.kept {
			parts = append(parts, p.name)
		}
	}
	return strings.Join(parts, ", ")
}
