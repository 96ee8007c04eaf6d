package authn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

var tenantPattern = pattern.Lazy(`^[a-z0-9][a-z0-9-]{0,30}$`)

// ValidTenant reports whether a name can be a tenant's.
func ValidTenant(name string) bool { return tenantPattern().MatchString(name) }

// TenantNames says what ValidTenant takes.
const TenantNames = "up to 31 lower-case letters, digits and dashes, the first not a dash"

// Limits of the public API.
const (
	maxText     = 255
	maxPage     = 1000
	defaultPage = 100
)

// caller is who makes a call of AccessService.
func caller(ctx context.Context) (authz.Principal, error) {
	p, ok := authz.From(ctx)
	if !ok {
		return p, unauthenticated("the call is nobody's")
	}
	return p, nil
}

// WhoAmI is what the caller is told about itself.
func (d *Directory) WhoAmI(ctx context.Context) (*brokerv1.WhoAmIResponse, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return p.WhoAmI(), nil
}

// CreateTenant makes a tenant.
func (d *Directory) CreateTenant(ctx context.Context, req *brokerv1.CreateTenantRequest) (*brokerv1.Tenant, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if !ValidTenant(req.GetName()) {
		return nil, fault.Field("name", req.GetName(), "want "+TenantNames)
	}
	if err := checkText("description", req.GetDescription()); err != nil {
		return nil, err
	}
	t := &brokerv1.Tenant{Name: req.GetName(), Description: req.GetDescription(), CreatedAt: timestamppb.Now()}
	err = d.store.InsertTenant(ctx, t)
	if errors.Is(err, state.ErrNameTaken) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "name is %q: a tenant has it", t.GetName()).With("name", t.GetName())
	}
	if err != nil {
		return nil, state.Fault(err)
	}
	d.log.InfoContext(ctx, "tenant is created", "tenant", t.GetName(), "caller", p)
	return t, nil
}

// ListTenants returns one page of tenants: of those that the caller may act for.
func (d *Directory) ListTenants(ctx context.Context, req *brokerv1.ListTenantsRequest) (*brokerv1.ListTenantsResponse, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &brokerv1.ListTenantsResponse{}
	if p.Role == brokerv1.Role_ROLE_ADMIN {
		out.Tenants, out.NextPageToken, err = d.store.ListTenants(ctx, page)
		return out, listFault(err, page.Token)
	}
	own, err := d.store.Tenant(ctx, p.Tenant)
	if err != nil {
		return nil, state.Fault(err)
	}
	out.Tenants = []*brokerv1.Tenant{own}
	return out, nil
}

// DeleteTenant deletes a tenant that has nothing any more; one that does not exist
// is a success.
func (d *Directory) DeleteTenant(ctx context.Context, name string) (alreadyAbsent bool, err error) {
	p, err := caller(ctx)
	if err != nil {
		return false, err
	}
	if name == authz.DefaultTenant {
		return false, fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED,
			"tenant is %q: that is the local user's, and stays", name).With("tenant", name)
	}
	if _, err := d.store.Tenant(ctx, name); errors.Is(err, state.ErrNotFound) {
		return true, nil
	} else if err != nil {
		return false, state.Fault(err)
	}
	p.Acting = name
	if err := d.withoutVolumes(authz.With(ctx, p), name); err != nil {
		return false, err
	}
	switch err := d.store.RemoveTenant(ctx, name); {
	case errors.Is(err, state.ErrNotFound):
		return true, nil
	case errors.Is(err, state.ErrTenantInUse):
		return false, fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE,
			"tenant %q has sandboxes or snapshots: remove them first", name).With("tenant", name).With("used_by", "sandboxes, snapshots")
	case err != nil:
		return false, state.Fault(err)
	}
	d.tenants.forget(name)
	d.keys.forgetAll()
	d.recheckNow(ctx)
	d.log.InfoContext(ctx, "tenant is deleted", "tenant", name, "caller", p)
	return false, nil
}

// withoutVolumes refuses to delete a tenant that has volumes: another one of its
// name would find them.
func (d *Directory) withoutVolumes(ctx context.Context, name string) error {
	if d.volumes == nil {
		return nil
	}
	list, err := d.volumes.ListVolumes(ctx, "")
	if err != nil {
		return err
	}
	if n := len(list.GetVolumes()); n > 0 {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE, "tenant %q has %d volumes: remove them first", name, n).
			With("tenant", name).With("used_by", list.GetVolumes()[0].GetVolume().GetName())
	}
	if silent := slices.Sorted(maps.Keys(list.GetUnreachable())); len(silent) > 0 {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
			"whether tenant %q has volumes at %s cannot be told: %s", name, silent[0], list.GetUnreachable()[silent[0]]).
			With("tenant", name).With("provider", silent[0]).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	return nil
}

// CreateAPIKey makes a key of the tenant that the call is for. secret is the whole
// key, which nobody can be told again.
func (d *Directory) CreateAPIKey(ctx context.Context, req *brokerv1.CreateAPIKeyRequest) (_ *brokerv1.APIKey, secret string, err error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, "", err
	}
	body := &brokerv1.APIKey{
		Tenant: p.Acting, Name: req.GetName(), Role: req.GetRole(), Scope: proto.CloneOf(req.GetScope()),
		CreatedAt: timestamppb.Now(), CreatedBy: p.ID, ExpiresAt: req.GetExpiresAt(),
	}
	if err := checkKey(p, body, time.Now()); err != nil {
		return nil, "", err
	}
	id, key, hash := NewKey()
	body.KeyId = id
	err = d.store.InsertKey(ctx, &state.Key{Body: body, Hash: hash})
	if errors.Is(err, state.ErrNoTenant) {
		return nil, "", noTenant(p.Acting)
	}
	if err != nil {
		return nil, "", state.Fault(err)
	}
	d.log.InfoContext(ctx, "API key is created", "key_id", id, "tenant", body.GetTenant(), "role", authz.RoleName(body.GetRole()), "caller", p)
	return body, key, nil
}

// checkKey refuses a key that cannot be, or that would hand out more than its
// maker has.
func checkKey(p authz.Principal, k *brokerv1.APIKey, now time.Time) error {
	if p.Acting == authz.AllTenants {
		return fault.Field("tenant", authz.AllTenants, "want the one tenant that the key is for")
	}
	if err := checkText("name", k.GetName()); err != nil {
		return err
	}
	if _, err := authz.ParseRole(authz.RoleName(k.GetRole())); err != nil {
		return fault.Field("role", authz.RoleName(k.GetRole()), "want admin, operator, user or auditor")
	}
	if err := authz.CheckScope(k.GetScope()); err != nil {
		return fault.Field("scope", strings.Join(authz.ScopeWords(k.GetScope()), " "), err.Error())
	}
	if !p.Covers(k.GetRole(), k.GetScope()) {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
			"role is %q: %s, of role %s, cannot make a key that may do more than itself", authz.RoleName(k.GetRole()), p, authz.RoleName(p.Role)).
			With(fault.MetaField, "role").With("role", authz.RoleName(p.Role))
	}
	end := k.GetExpiresAt()
	if end == nil {
		return outlives(p, time.Time{})
	}
	if end.CheckValid() != nil || !end.AsTime().After(now) {
		return fault.Field("expires_at", end.AsTime().UTC().Format(time.RFC3339), "want a time to come, or none")
	}
	return outlives(p, end.AsTime())
}

// outlives refuses a key that a key with an end makes to last longer than itself:
// its end would mean nothing. A token's holder is a person, who signs in anew.
func outlives(p authz.Principal, end time.Time) error {
	if p.Kind != brokerv1.CallerKind_CALLER_KIND_API_KEY || p.Expires.IsZero() || !end.IsZero() && !end.After(p.Expires) {
		return nil
	}
	limit := p.Expires.UTC().Format(time.RFC3339)
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
		"%s ends at %s, and cannot make a key that lasts longer: give it an end until then", p, limit).With(fault.MetaField, "expires_at").With("max", limit)
}

// ListAPIKeys returns one page of the keys of the tenant that the call is for.
func (d *Directory) ListAPIKeys(ctx context.Context, req *brokerv1.ListAPIKeysRequest) (*brokerv1.ListAPIKeysResponse, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	page, err := pageOf(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	tenant := p.Acting
	if tenant == authz.AllTenants {
		tenant = ""
	}
	keys, next, err := d.store.ListKeys(ctx, tenant, page)
	if err != nil {
		return nil, listFault(err, page.Token)
	}
	out := &brokerv1.ListAPIKeysResponse{NextPageToken: next}
	for _, k := range keys {
		out.ApiKeys = append(out.ApiKeys, k.Body)
	}
	return out, nil
}

// RevokeAPIKey makes a key void at once, also for calls that are open here. One
// that is revoked already stays as it is.
func (d *Directory) RevokeAPIKey(ctx context.Context, id string) (*brokerv1.APIKey, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	k, err := d.store.Key(ctx, id)
	if errors.Is(err, state.ErrNotFound) || err == nil && p.Acting != authz.AllTenants && k.Body.GetTenant() != p.Acting {
		return nil, noKey(p, id)
	}
	if err != nil {
		return nil, state.Fault(err)
	}
	if !p.Covers(k.Body.GetRole(), k.Body.GetScope()) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
			"key_id is %q: %s, of role %s, cannot revoke a key that may do more than itself", id, p, authz.RoleName(p.Role)).
			With(fault.MetaField, "key_id").With("role", authz.RoleName(p.Role))
	}
	if k.Body.GetRevokedAt() == nil {
		k.Body.RevokedAt, k.Body.RevokedBy = timestamppb.Now(), p.ID
		if err := d.store.UpdateKey(ctx, k.Body); errors.Is(err, state.ErrNotFound) {
			return nil, noKey(p, id)
		} else if err != nil {
			return nil, state.Fault(err)
		}
		d.log.InfoContext(ctx, "API key is revoked", "key_id", id, "tenant", k.Body.GetTenant(), "caller", p)
	}
	d.keys.forget(id)
	d.watches.end(subject{key: id}, void(k.Body, time.Now()))
	return k.Body, nil
}

// noKey does not repeat what may be a whole key.
func noKey(p authz.Principal, id string) error {
	if n := len(KeyPrefix) + keyIDLength; len(id) > n {
		return fault.Field("key_id", id[:n]+"…", fmt.Sprintf("want the id alone, which has %d characters, without the secret", n))
	}
	return fault.Field("key_id", id, fmt.Sprintf("want the id of a key of tenant %s; `sandbar key ls` lists them", p.Acting))
}

func checkText(field, text string) error {
	if len(text) > maxText || !utf8.ValidString(text) {
		return fault.Field(field, text, fmt.Sprintf("want at most %d bytes of UTF-8", maxText))
	}
	return nil
}

func pageOf(size int32, token string) (state.Page, error) {
	switch {
	case size == 0:
		size = defaultPage
	case size < 0 || size > maxPage:
		return state.Page{}, fault.Field("page_size", strconv.Itoa(int(size)), fmt.Sprintf("want 1 to %d, or 0 for %d", maxPage, defaultPage))
	}
	return state.Page{Size: int(size), Token: token}, nil
}

func listFault(err error, token string) error {
	if errors.Is(err, state.ErrBadToken) {
		return fault.Field("page_token", token, "want the token that the page before returned")
	}
	return state.Fault(err)
}
