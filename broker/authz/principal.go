package authz

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DefaultTenant is the one that is always there: that of the local user, and of
// all that was made before there were tenants.
const DefaultTenant = "default"

// AllTenants stands for every tenant where an admin names one.
const AllTenants = "*"

// Principal is a caller that was recognized.
type Principal struct {
	Kind brokerv1.CallerKind
	// ID is the id of a key, the subject of a token, or uid:1000.
	ID string
	// Issuer is that of a token.
	Issuer string
	// Name is for people; it may be empty.
	Name string
	// Tenant is the caller's own.
	Tenant string
	Role   brokerv1.Role
	// Scope narrows the role; nil: not at all. It is not to be changed.
	Scope *brokerv1.Scope
	// Expires is when the credential ends; zero: never.
	Expires time.Time
	// Acting is the tenant that the call is for, or AllTenants. Admit sets it.
	Acting string
}

// Local is the user who runs the broker, or root.
func Local(uid string) Principal {
	return Principal{
		Kind: brokerv1.CallerKind_CALLER_KIND_LOCAL, ID: "uid:" + uid,
		Tenant: DefaultTenant, Role: brokerv1.Role_ROLE_ADMIN, Acting: DefaultTenant,
	}
}

// May reports whether the caller has a permission.
func (p Principal) May(perm Permission) bool {
	if perm == Any {
		return true
	}
	if !slices.Contains(permissions[p.Role], perm) {
		return false
	}
	if given := p.Scope.GetPermissions(); len(given) > 0 && !slices.Contains(given, string(perm)) {
		return false
	}
	return !confines(p.Scope) || !slices.Contains(unconfined, perm)
}

// Permissions returns all that the caller has, in order of the alphabet.
func (p Principal) Permissions() []string {
	var out []string
	for _, perm := range permissions[p.Role] {
		if p.May(perm) {
			out = append(out, string(perm))
		}
	}
	slices.Sort(out)
	return out
}

// Sees reports whether an object of a tenant exists for this call. One without
// labels of its own, such as a provider, has nil.
func (p Principal) Sees(tenant, provider string, labels map[string]string) bool {
	if p.Acting != AllTenants && p.Acting != tenant || !p.Uses(provider) {
		return false
	}
	for k, v := range p.Scope.GetLabels() {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// Uses reports whether the caller may use a provider.
func (p Principal) Uses(provider string) bool {
	names := p.Scope.GetProviders()
	return len(names) == 0 || slices.Contains(names, provider)
}

// NeedProvider refuses a provider that the caller's scope leaves out.
func (p Principal) NeedProvider(name string) error {
	if p.Uses(name) {
		return nil
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
		"provider is %q: %s is kept to %q by its scope", name, p, p.Scope.GetProviders()).
		With(fault.MetaField, "provider").With("provider", name)
}

// Labelled returns the labels that something the caller makes gets: those given
// and those of the scope. A given label that contradicts the scope is an error.
func (p Principal) Labelled(labels map[string]string) (map[string]string, error) {
	scope := p.Scope.GetLabels()
	if len(scope) == 0 {
		return labels, nil
	}
	out := maps.Clone(labels)
	if out == nil {
		out = make(map[string]string, len(scope))
	}
	for k, v := range scope {
		if given, ok := out[k]; ok && given != v {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
				"labels[%s] is %q: %s is kept to %q by its scope", k, given, p, v).With(fault.MetaField, "labels["+k+"]").With("value", given)
		}
		out[k] = v
	}
	return out, nil
}

// Covers reports whether somebody with this role and scope would have nothing
// that the caller has not: so that nobody hands out more than they have.
func (p Principal) Covers(role brokerv1.Role, scope *brokerv1.Scope) bool {
	if role == brokerv1.Role_ROLE_ADMIN && p.Role != brokerv1.Role_ROLE_ADMIN {
		return false
	}
	other := Principal{Role: role, Scope: scope}
	for _, perm := range permissions[role] {
		if other.May(perm) && !p.May(perm) {
			return false
		}
	}
	return !confines(p.Scope)
}

// String names the caller for people, in the middle of a sentence.
func (p Principal) String() string {
	switch p.Kind {
	case brokerv1.CallerKind_CALLER_KIND_API_KEY:
		return "the key " + p.ID
	case brokerv1.CallerKind_CALLER_KIND_OIDC:
		return "the token of " + p.ID
	default:
		return "the user " + p.ID
	}
}

// LogValue is what a log says about the caller.
func (p Principal) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", p.ID), slog.String("issuer", p.Issuer), slog.String("role", RoleName(p.Role)),
		slog.String("tenant", p.Tenant), slog.String("acting_tenant", p.Acting))
}

// WhoAmI is what the caller is told about itself.
func (p Principal) WhoAmI() *brokerv1.WhoAmIResponse {
	out := &brokerv1.WhoAmIResponse{
		Kind: p.Kind, Id: p.ID, Name: p.Name, Issuer: p.Issuer, Tenant: p.Tenant, ActingTenant: p.Acting,
		Role: p.Role, Scope: p.Scope, Permissions: p.Permissions(),
	}
	if !p.Expires.IsZero() {
		out.ExpiresAt = timestamppb.New(p.Expires)
	}
	return out
}

type principalKey struct{}

// With returns a context of a call by p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the caller of a call; false if the context is not that of one.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
