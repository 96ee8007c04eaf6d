package api

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/authz"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Admin is what AdminService is about: the process that serves.
type Admin interface {
	// Server describes the process.
	Server() *brokerv1.GetServerResponse
	// Stop asks the process to end after the answer has been sent, or refuses.
	Stop() error
	// Providers describes all configured providers.
	Providers() []*brokerv1.Provider
	// Probe asks a provider whether it could make sandboxes.
	Probe(ctx context.Context, name string) (*providerv1.ProbeResponse, error)
	// Restart ends a provider's process and starts a new one.
	Restart(ctx context.Context, name string) (*brokerv1.Provider, error)
	// Activity says how the providers fare.
	Activity(ctx context.Context) (*brokerv1.GetActivityResponse, error)
}

// admin serves AdminService.
type admin struct{ a Admin }

var _ brokerv1connect.AdminServiceHandler = admin{}

func (h admin) GetServer(context.Context, *connect.Request[brokerv1.GetServerRequest]) (*connect.Response[brokerv1.GetServerResponse], error) {
	return connect.NewResponse(h.a.Server()), nil
}

func (h admin) StopServer(context.Context, *connect.Request[brokerv1.StopServerRequest]) (*connect.Response[brokerv1.StopServerResponse], error) {
	return answer(&brokerv1.StopServerResponse{}, h.a.Stop())
}

func (h admin) ListProviders(ctx context.Context, _ *connect.Request[brokerv1.ListProvidersRequest]) (*connect.Response[brokerv1.ListProvidersResponse], error) {
	who, _ := authz.From(ctx)
	all := slices.DeleteFunc(h.a.Providers(), func(p *brokerv1.Provider) bool { return !who.Uses(p.GetName()) })
	return connect.NewResponse(&brokerv1.ListProvidersResponse{Providers: all}), nil
}

func (h admin) ProbeProvider(ctx context.Context, req *connect.Request[brokerv1.ProbeProviderRequest]) (*connect.Response[brokerv1.ProbeProviderResponse], error) {
	if err := needProvider(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	probe, err := h.a.Probe(ctx, req.Msg.GetName())
	return answer(&brokerv1.ProbeProviderResponse{Probe: probe}, err)
}

func (h admin) RestartProvider(ctx context.Context, req *connect.Request[brokerv1.RestartProviderRequest]) (*connect.Response[brokerv1.RestartProviderResponse], error) {
	if err := needProvider(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	p, err := h.a.Restart(ctx, req.Msg.GetName())
	return answer(&brokerv1.RestartProviderResponse{Provider: p}, err)
}

func (h admin) GetActivity(ctx context.Context, _ *connect.Request[brokerv1.GetActivityRequest]) (*connect.Response[brokerv1.GetActivityResponse], error) {
	return answer(h.a.Activity(ctx))
}

func needProvider(ctx context.Context, name string) error {
	who, _ := authz.From(ctx)
	return who.NeedProvider(name)
}
