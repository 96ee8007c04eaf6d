package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type providersCmd struct {
	Name string `arg:"" optional:"" help:"Show what this provider can do."`
}

// Run lists providers, or the capabilities of one.
func (c *providersCmd) Run(ctx context.Context, a *app) error {
	providers, err := a.listProviders(ctx)
	if err != nil {
		return err
	}
	if c.Name != "" {
		return a.showProvider(providers, c.Name)
	}
	if a.JSON {
		return render.Messages(a.stdout, providers)
	}
	rows := make([][]string, 0, len(providers))
	for _, p := range providers {
		name := p.GetName()
		if p.GetIsDefault() {
			name += " (default)"
		}
		pid := ""
		if p.GetPid() != 0 {
			pid = strconv.Itoa(int(p.GetPid()))
		}
		rows = append(rows, []string{
			name, render.Enum(p.GetState(), "PLUGIN_STATE_"), p.GetVersion(), pid, strconv.Itoa(int(p.GetStarts())), p.GetStatusReason(),
		})
	}
	return render.Table(a.stdout, []string{"NAME", "STATE", "VERSION", "PID", "STARTS", "REASON"}, rows)
}

func (a *app) listProviders(ctx context.Context) ([]*brokerv1.Provider, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) ([]*brokerv1.Provider, error) {
		res, err := c.Admin.ListProviders(ctx, request(&brokerv1.ListProvidersRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetProviders(), nil
	})
}

func findProvider(providers []*brokerv1.Provider, name string) (*brokerv1.Provider, error) {
	var have []string
	for _, p := range providers {
		if p.GetName() == name || name == "" && p.GetIsDefault() {
			return p, nil
		}
		have = append(have, p.GetName())
	}
	return nil, fmt.Errorf("there is no provider %q; there are %q", name, have)
}

func (a *app) showProvider(providers []*brokerv1.Provider, name string) error {
	p, err := findProvider(providers, name)
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, p)
	}
	rows := make([][]string, 0, len(p.GetCapabilities()))
	for _, capability := range p.GetCapabilities() {
		remark := capability.GetReason()
		if capability.GetAlternative() != "" {
			remark += "; instead: " + capability.GetAlternative()
		}
		rows = append(rows, []string{
			capability.GetId(), render.Enum(capability.GetState(), "CAPABILITY_STATE_"),
			render.Enum(capability.GetStability(), "STABILITY_"), remark,
		})
	}
	return render.Table(a.stdout, []string{"CAPABILITY", "STATE", "STABILITY", "REMARK"}, rows)
}

func (a *app) probe(ctx context.Context, name string) (*providerv1.ProbeResponse, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*providerv1.ProbeResponse, error) {
		res, err := c.Admin.ProbeProvider(ctx, request(&brokerv1.ProbeProviderRequest{Name: name}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetProbe(), nil
	})
}
