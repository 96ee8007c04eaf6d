package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type whoamiCmd struct{}

// Run says who the broker takes the caller for.
func (c *whoamiCmd) Run(ctx context.Context, a *app) error {
	who, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.WhoAmIResponse, error) {
		res, err := cl.Access.WhoAmI(ctx, request(&brokerv1.WhoAmIRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, who)
	}
	tenant := who.GetTenant()
	if acting := who.GetActingTenant(); acting != tenant {
		tenant += ", acting for " + acting
	}
	rows := [][]string{
		{"kind", render.Enum(who.GetKind(), "CALLER_KIND_")},
		{"id", who.GetId()},
		{"issuer", who.GetIssuer()},
		{"name", who.GetName()},
		{"tenant", tenant},
		{"role", authz.RoleName(who.GetRole())},
		{"scope", strings.Join(authz.ScopeWords(who.GetScope()), " ")},
		{"expires", render.Until(a.now(), who.GetExpiresAt())},
		{"permissions", strings.Join(who.GetPermissions(), " ")},
	}
	for _, row := range rows {
		if row[1] == "" {
			continue
		}
		if err := a.out("%-12s %s", row[0], render.Cell(row[1])); err != nil {
			return err
		}
	}
	return nil
}

type tenantCmd struct {
	Create tenantCreateCmd `cmd:"" help:"Create a tenant."`
	Set    tenantSetCmd    `cmd:"" help:"Change a tenant: its quotas, its budgets, its description."`
	Ls     tenantLsCmd     `cmd:"" aliases:"list" help:"List tenants."`
	Rm     tenantRmCmd     `cmd:"" help:"Remove tenants that have nothing any more, and their keys."`
}

type tenantCreateCmd struct {
	Description string `help:"What it is for." placeholder:"TEXT"`
	Name        string `arg:"" help:"Name: up to 31 small letters, digits and dashes. It never changes."`
}

// Run creates a tenant.
func (c *tenantCreateCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.Access.CreateTenant(ctx, request(&brokerv1.CreateTenantRequest{Name: c.Name, Description: c.Description}))
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, res.Msg.GetTenant())
	}
	return a.out("%s", res.Msg.GetTenant().GetName())
}

type tenantLsCmd struct{}

// Run lists the tenants that the caller may act for.
func (c *tenantLsCmd) Run(ctx context.Context, a *app) error {
	var all []*brokerv1.Tenant
	req := &brokerv1.ListTenantsRequest{PageSize: listPage}
	for {
		page, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.ListTenantsResponse, error) {
			res, err := cl.Access.ListTenants(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil {
			return err
		}
		all = append(all, page.GetTenants()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if a.JSON {
		return render.Messages(a.stdout, all)
	}
	rows := make([][]string, 0, len(all))
	for _, t := range all {
		rows = append(rows, []string{t.GetName(), render.Ago(a.now(), t.GetCreatedAt()), t.GetDescription(), limits(t.GetLimits())})
	}
	return render.Table(a.stdout, []string{"NAME", "CREATED", "DESCRIPTION", "LIMITS"}, rows)
}

type tenantRmCmd struct {
	Name []string `arg:"" help:"Names."`
}

// Run removes tenants; removing an absent one is a success.
func (c *tenantRmCmd) Run(ctx context.Context, a *app) error {
	return a.removeEach("tenant", c.Name, func(name string) (bool, error) {
		res, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.DeleteTenantResponse, error) {
			res, err := cl.Access.DeleteTenant(ctx, request(&brokerv1.DeleteTenantRequest{Name: name}))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		return res.GetAlreadyAbsent(), err
	})
}

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make an API key and print it, once."`
	Ls     keyLsCmd     `cmd:"" aliases:"list" help:"List API keys."`
	Revoke keyRevokeCmd `cmd:"" help:"Make API keys void, at once and for good."`
}

type keyCreateCmd struct {
	Role    string         `enum:"admin,operator,user,auditor" default:"user" help:"What it may do: admin, operator, user or auditor." placeholder:"ROLE"`
	Scope   []string       `help:"Narrow the role to permissions (exec, sandbox:read, sandbox), to providers (provider=NAME) or to what has a label (label:NAME=VALUE). May be repeated." placeholder:"SCOPE"`
	Expires value.Duration `help:"Time until it ends, such as 30d. Default: never." placeholder:"TIME"`
	Name    string         `arg:"" optional:"" help:"Who or what it is for."`
}

// Help is shown below the flags.
func (*keyCreateCmd) Help() string {
	return "The key is of your own tenant, or of the one that --tenant names. Nobody can make a key that may do more than they may."
}

// Run makes a key. Standard output gets the key and nothing else, so that it can
// be caught.
func (c *keyCreateCmd) Run(ctx context.Context, a *app) error {
	role, err := authz.ParseRole(c.Role)
	if err != nil {
		return badFlag("role", c.Role, err.Error())
	}
	scope, err := authz.ParseScope(c.Scope)
	if err != nil {
		return &usageError{message: "--scope: " + err.Error()}
	}
	req := &brokerv1.CreateAPIKeyRequest{Name: c.Name, Role: role, Scope: scope}
	if c.Expires > 0 {
		req.ExpiresAt = timestamppb.New(a.now().Add(time.Duration(c.Expires)))
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.Access.CreateAPIKey(ctx, request(req))
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, res.Msg)
	}
	k := res.Msg.GetApiKey()
	a.note("key %s, role %s of tenant %s, expires %s; it is not shown again", k.GetKeyId(), c.Role, k.GetTenant(), render.Until(a.now(), k.GetExpiresAt()))
	return a.out("%s", res.Msg.GetSecret())
}

type keyLsCmd struct {
	All bool `help:"Also those that are revoked or have ended."`
}

// Run lists keys.
func (c *keyLsCmd) Run(ctx context.Context, a *app) error {
	var all []*brokerv1.APIKey
	req := &brokerv1.ListAPIKeysRequest{PageSize: listPage}
	for {
		page, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.ListAPIKeysResponse, error) {
			res, err := cl.Access.ListAPIKeys(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil {
			return err
		}
		for _, k := range page.GetApiKeys() {
			if c.All || keyState(k, a.now()) == "" {
				all = append(all, k)
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if a.JSON {
		return render.Messages(a.stdout, all)
	}
	rows := make([][]string, 0, len(all))
	for _, k := range all {
		ends := render.Until(a.now(), k.GetExpiresAt())
		if state := keyState(k, a.now()); state != "" {
			ends = state
		}
		rows = append(rows, []string{
			k.GetKeyId(), k.GetName(), k.GetTenant(), authz.RoleName(k.GetRole()), strings.Join(authz.ScopeWords(k.GetScope()), " "),
			render.Ago(a.now(), k.GetCreatedAt()), ends,
		})
	}
	return render.Table(a.stdout, []string{"ID", "NAME", "TENANT", "ROLE", "SCOPE", "CREATED", "EXPIRES"}, rows)
}

// keyState says why a key does not hold any more, or "".
func keyState(k *brokerv1.APIKey, now time.Time) string {
	switch {
	case k.GetRevokedAt() != nil:
		return "revoked"
	case k.GetExpiresAt() != nil && !k.GetExpiresAt().AsTime().After(now):
		return "expired"
	default:
		return ""
	}
}

type keyRevokeCmd struct {
	ID []string `arg:"" name:"id" help:"Ids of keys: how they begin, such as sbk_4f7q2m6xk3pa."`
}

// Run revokes keys, all that it can.
func (c *keyRevokeCmd) Run(ctx context.Context, a *app) error {
	var revoked []*brokerv1.APIKey
	var errs []error
	for _, id := range c.ID {
		k, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.APIKey, error) {
			res, err := cl.Access.RevokeAPIKey(ctx, request(&brokerv1.RevokeAPIKeyRequest{KeyId: id}))
			if err != nil {
				return nil, err
			}
			return res.Msg.GetApiKey(), nil
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		revoked = append(revoked, k)
		if !a.JSON {
			if err := a.out("%s", k.GetKeyId()); err != nil {
				return err
			}
		}
	}
	if a.JSON {
		errs = append(errs, render.Messages(a.stdout, revoked))
	}
	return errors.Join(errs...)
}
