package server_test

import (
	"errors"
	"net"
	"testing"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const insufficient = providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT

// office is a server on TCP, and its local user.

type office struct {
	opts    server.Options
	address string
	local   *apiclient.Client
}

func newOffice(t *testing.T, tenants ...string) *office {
	t.Helper()
	return officeWith(t, config.Default(), tenants...)
}

func officeWith(t *testing.T, c *config.Config, tenants ...string) *office {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	o := &office{opts: site(t), address: l.Addr().String()}
	check(t, l.Close())
	o.opts.OnDemand = false
	o.opts.Config = c
	o.opts.Config.Listen.TCP = o.address
	run(t, o.opts)
	o.local = client(t, o.opts)
	for _, name := range tenants {
		_, err := o.local.Access.CreateTenant(t.Context(), connect.NewRequest(&brokerv1.CreateTenantRequest{Name: name}))
		check(t, err)
	}
	return o
}

// in is a request for a tenant.

func in[T any](tenant string, msg *T) *connect.Request[T] {
	req := connect.NewRequest(msg)
	if tenant != "" {
		req.Header().Set(authz.TenantHeader, tenant)
	}
	return req
}

// key makes a key of a tenant.

func (o *office) key(t *testing.T, tenant string, role brokerv1.Role, scope ...string) (id, secret string) {
	t.Helper()
	s, err := authz.ParseScope(scope)
	check(t, err)
	res, err := o.local.Access.CreateAPIKey(t.Context(), in(tenant, &brokerv1.CreateAPIKeyRequest{Role: role, Scope: s}))
	check(t, err)
	return res.Msg.GetApiKey().GetKeyId(), res.Msg.GetSecret()
}

// caller returns a client with a credential.

func (o *office) caller(t *testing.T, credential string) *apiclient.Client {
	t.Helper()
	c, err := apiclient.TCP("http://"+o.address, credential, nil)
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

func (o *office) holder(t *testing.T, tenant string, role brokerv1.Role, scope ...string) *apiclient.Client {
	t.Helper()
	_, secret := o.key(t, tenant, role, scope...)
	return o.caller(t, secret)
}

// mays is who may make which call: A admin, O operator, U user, X auditor. It is

// written out by hand, so that the table in package authz is tested and not

// repeated.

// methods are all calls of the API.

// call makes a call with an empty request, and returns what it was refused for.

// TestEveryCallByEveryRole asks a real server for each call that there is, as

// nobody and in each role.

// TestTenantsAreApart: what one tenant has does not exist for another, whatever

// another one calls it.

func reason(t *testing.T, err error, want providerv1.ErrorReason) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != want {
		t.Fatalf("error is %v, want %v", err, want)
	}
	return f
}

// TestAKeyForOneTeam: a scope of labels is a part of the tenant.

// TestHostFoldersAreTheAdmins: no role but admin mounts folders of the machine.

// open opens a stream that would stay open for ever.

// ended is why a stream ended.

// TestRevocation: a key that is revoked is void for the next call, and for those

// that are open: at once where it was revoked, and soon where that was another

// process.

// patience is how long a key that ends lives: enough to open a stream with it on a

// busy machine.

// TestExpiry: a key that ends, ends its streams.

// TestKeysHandOutNoMore: who may make keys makes none that may do more.

// TestTokensOfAnIssuer: a person signs in at an issuer that speaks TLS with a

// certificate of its own, and is who the configuration says.
