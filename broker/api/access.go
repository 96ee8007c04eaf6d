package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/authz"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
)

// Access is what AccessService is about: tenants and credentials. The caller is in
// the context.
type Access interface {
	// CheckTenant refuses a tenant that there is not.
	CheckTenant(ctx context.Context, name string) error
	// Watch returns a context that ends when the caller's credential does, with the
	// fault to tell as its cause. stop must be called.
	Watch(ctx context.Context, who authz.Principal) (_ context.Context, stop func())

	WhoAmI(ctx context.Context) (*brokerv1.WhoAmIResponse, error)
	CreateTenant(ctx context.Context, req *brokerv1.CreateTenantRequest) (*brokerv1.Tenant, error)
	ListTenants(ctx context.Context, req *brokerv1.ListTenantsRequest) (*brokerv1.ListTenantsResponse, error)
	DeleteTenant(ctx context.Context, name string) (alreadyAbsent bool, err error)
	CreateAPIKey(ctx context.Context, req *brokerv1.CreateAPIKeyRequest) (_ *brokerv1.APIKey, secret string, err error)
	ListAPIKeys(ctx context.Context, req *brokerv1.ListAPIKeysRequest) (*brokerv1.ListAPIKeysResponse, error)
	RevokeAPIKey(ctx context.Context, id string) (*brokerv1.APIKey, error)
	UpdateTenant(ctx context.Context, req *brokerv1.UpdateTenantRequest) (*brokerv1.Tenant, error)
}

// access serves AccessService.
type access struct{ a Access }

var _ brokerv1connect.AccessServiceHandler = access{}

func (h access) WhoAmI(ctx context.Context, _ *connect.Request[brokerv1.WhoAmIRequest]) (*connect.Response[brokerv1.WhoAmIResponse], error) {
	return answer(h.a.WhoAmI(ctx))
}

func (h access) CreateTenant(ctx context.Context, req *connect.Request[brokerv1.CreateTenantRequest]) (*connect.Response[brokerv1.CreateTenantResponse], error) {
	t, err := h.a.CreateTenant(ctx, req.Msg)
	return answer(&brokerv1.CreateTenantResponse{Tenant: t}, err)
}

func (h access) ListTenants(ctx context.Context, req *connect.Request[brokerv1.ListTenantsRequest]) (*connect.Response[brokerv1.ListTenantsResponse], error) {
	return answer(h.a.ListTenants(ctx, req.Msg))
}

func (h access) DeleteTenant(ctx context.Context, req *connect.Request[brokerv1.DeleteTenantRequest]) (*connect.Response[brokerv1.DeleteTenantResponse], error) {
	absent, err := h.a.DeleteTenant(ctx, req.Msg.GetName())
	return answer(&brokerv1.DeleteTenantResponse{AlreadyAbsent: absent}, err)
}

func (h access) CreateAPIKey(ctx context.Context, req *connect.Request[brokerv1.CreateAPIKeyRequest]) (*connect.Response[brokerv1.CreateAPIKeyResponse], error) {
	k, secret, err := h.a.CreateAPIKey(ctx, req.Msg)
	return answer(&brokerv1.CreateAPIKeyResponse{ApiKey: k, Secret: secret}, err)
}

func (h access) ListAPIKeys(ctx context.Context, req *connect.Request[brokerv1.ListAPIKeysRequest]) (*connect.Response[brokerv1.ListAPIKeysResponse], error) {
	return answer(h.a.ListAPIKeys(ctx, req.Msg))
}

func (h access) RevokeAPIKey(ctx context.Context, req *connect.Request[brokerv1.RevokeAPIKeyRequest]) (*connect.Response[brokerv1.RevokeAPIKeyResponse], error) {
	k, err := h.a.RevokeAPIKey(ctx, req.Msg.GetKeyId())
	return answer(&brokerv1.RevokeAPIKeyResponse{ApiKey: k}, err)
}

func (h access) UpdateTenant(ctx context.Context, req *connect.Request[brokerv1.UpdateTenantRequest]) (*connect.Response[brokerv1.UpdateTenantResponse], error) {
	t, err := h.a.UpdateTenant(ctx, req.Msg)
	return answer(&brokerv1.UpdateTenantResponse{Tenant: t}, err)
}
