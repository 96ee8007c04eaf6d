package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// check is one finding of doctor.
type check struct {
	Area   string `json:"area"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
}

const (
	checkOK       = "ok"
	checkDegraded = "degraded"
	checkFailed   = "failed"
)

type doctorCmd struct{}

// Help is shown below the flags.
func (*doctorCmd) Help() string {
	return "Ends with 0 if the default provider can make sandboxes, and with 1 if not."
}

// Run checks the broker and every provider. Only what the default provider
// lacks makes it fail: the others may be meant for other machines.
func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	checks, works := a.examine(ctx)
	if err := a.printChecks(checks, works); err != nil {
		return err
	}
	if !works {
		return exitError(codeFailure)
	}
	return ctx.Err()
}

func (a *app) examine(ctx context.Context) (checks []check, works bool) {
	server, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.GetServerResponse, error) {
		res, err := cl.Admin.GetServer(ctx, request(&brokerv1.GetServerRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
	if err != nil {
		return []check{{Area: "broker", Name: "reachable", Status: checkFailed, Detail: oneLine(err.Error()), Remedy: oneLine(hint(err))}}, false
	}
	checks = append(checks, brokerCheck(a, server))
	providers, err := a.listProviders(ctx)
	if err != nil {
		return append(checks, check{Area: "broker", Name: "providers", Status: checkFailed, Detail: oneLine(err.Error())}), false
	}
	if len(providers) == 0 {
		checks = append(checks, check{
			Area: "broker", Name: "providers", Status: checkFailed, Detail: "no provider is configured",
			Remedy: "name one in the configuration of the broker, or put sandbar-provider-local beside the sandbar binary",
		})
	}
	for _, p := range providers {
		found, ok := a.examineProvider(ctx, p)
		checks = append(checks, found...)
		works = works || ok && p.GetIsDefault()
	}
	return checks, works
}

// settled returns what a provider is after it was asked something, which waits
// for its start; a plugin that has just been started is no finding.
func (a *app) settled(ctx context.Context, before *brokerv1.Provider) *brokerv1.Provider {
	providers, err := a.listProviders(ctx)
	if err != nil {
		return before
	}
	if p, err := findProvider(providers, before.GetName()); err == nil {
		return p
	}
	return before
}

func brokerCheck(a *app, server *brokerv1.GetServerResponse) check {
	out := check{
		Area: "broker", Name: "reachable", Status: checkOK,
		Detail: fmt.Sprintf("version %s at %s, process %d", server.GetVersion(), a.client.Address(), server.GetPid()),
	}
	if server.GetVersion() != a.version {
		out.Status = checkDegraded
		out.Detail += "; this is version " + a.version
		out.Remedy = "`sandbar daemon stop` lets the next command start this version"
	}
	return out
}

// examineProvider asks for plugin and machine. A provider that cannot be asked
// does not work.
func (a *app) examineProvider(ctx context.Context, p *brokerv1.Provider) ([]check, bool) {
	probe, err := a.probe(ctx, p.GetName())
	p = a.settled(ctx, p)
	plugin := check{Area: p.GetName(), Name: "plugin", Status: checkOK, Detail: p.GetPath()}
	if p.GetSha256() != "" {
		plugin.Detail += " sha256:" + p.GetSha256()
	}
	switch p.GetState() {
	case brokerv1.PluginState_PLUGIN_STATE_READY, brokerv1.PluginState_PLUGIN_STATE_STOPPED:
	case brokerv1.PluginState_PLUGIN_STATE_QUARANTINED:
		plugin.Status = checkFailed
		plugin.Remedy = "mend the cause, then restart the provider"
	default:
		plugin.Status = checkDegraded
	}
	if plugin.Status != checkOK {
		plugin.Detail = strings.TrimSuffix(render.Enum(p.GetState(), "PLUGIN_STATE_")+": "+p.GetStatusReason(), ": ")
	}
	checks := []check{plugin}
	if err != nil {
		return append(checks, check{Area: p.GetName(), Name: "probe", Status: checkFailed, Detail: oneLine(err.Error()), Remedy: oneLine(hint(err))}), false
	}
	for _, c := range probe.GetChecks() {
		checks = append(checks, check{Area: p.GetName(), Name: c.GetName(), Status: probeStatus(c.GetStatus()), Detail: c.GetDetail(), Remedy: c.GetRemedy()})
	}
	return checks, probe.GetReady()
}

func probeStatus(s providerv1.ProbeStatus) string {
	switch s {
	case providerv1.ProbeStatus_PROBE_STATUS_OK:
		return checkOK
	case providerv1.ProbeStatus_PROBE_STATUS_DEGRADED:
		return checkDegraded
	default:
		return checkFailed
	}
}

func (a *app) printChecks(checks []check, works bool) error {
	if a.JSON {
		return render.Value(a.stdout, map[string]any{"works": works, "checks": checks})
	}
	rows := make([][]string, 0, len(checks))
	for _, c := range checks {
		rows = append(rows, []string{c.Status, c.Area, c.Name, c.Detail})
		if c.Remedy != "" {
			rows = append(rows, []string{" ", " ", " ", "→ " + c.Remedy})
		}
	}
	if err := render.Table(a.stdout, []string{"STATUS", "AREA", "CHECK", "FOUND"}, rows); err != nil {
		return err
	}
	if works {
		return a.out("\nSandboxes can be made here.")
	}
	return a.out("\nThe default provider cannot make sandboxes: see what failed above.")
}
