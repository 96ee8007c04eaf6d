package config

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/authz"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// APIKey is one caller.
type APIKey struct {
	Name string `yaml:"name"`
	// SHA256 of the key, in hex.
	SHA256 string `yaml:"sha256"`
	// Tenant that it is of; it is made if there is none. Empty: default.
	Tenant string `yaml:"tenant"`
	// Role is admin, operator, user or auditor. Empty: admin, which every key was
	// before there were roles.
	Role string `yaml:"role"`
	// Scope narrows the role, in the words of authz.ParseScope.
	Scope []string `yaml:"scope"`
	// Expires is a time such as 2027-01-31T00:00:00Z. Empty: never.
	Expires string `yaml:"expires"`
}

// OIDC is an OpenID Connect issuer.
type OIDC struct {
	Issuer string `yaml:"issuer"`
	// Audience must be among a token's.
	Audience string `yaml:"audience"`
	// CA is the path of a PEM file with the certificates that the issuer's is checked
	// by. Empty: the system's.
	CA string `yaml:"ca"`
	// Algorithms that may sign. Empty: RS256, ES256 and EdDSA.
	Algorithms []string `yaml:"algorithms"`
	// ClockSkew is how far the issuer's clock may be from ours. Zero: 30 s.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// Tenant is that of all tokens, and is made if there is none; or TenantClaim is
	// the claim that names the tenant, by a value of Tenants if there are any.
	Tenant      string            `yaml:"tenant"`
	TenantClaim string            `yaml:"tenant_claim"`
	Tenants     map[string]string `yaml:"tenants"`
	// RoleClaim is a claim with a text or a list, whose values Roles maps to roles.
	// Role is that of tokens with none of them; empty: they are refused.
	RoleClaim string            `yaml:"role_claim"`
	Roles     map[string]string `yaml:"roles"`
	Role      string            `yaml:"role"`
}

// Of returns the tenant of a key.
func (k APIKey) Of() string {
	if k.Tenant == "" {
		return authz.DefaultTenant
	}
	return k.Tenant
}

// Key returns the key as it is checked.
func (k APIKey) Key() (authn.ConfiguredKey, error) {
	out := authn.ConfiguredKey{Name: k.Name, Hash: k.SHA256, Tenant: k.Of(), Role: brokerv1.Role_ROLE_ADMIN}
	var err error
	if k.Role != "" {
		if out.Role, err = authz.ParseRole(k.Role); err != nil {
			return out, fmt.Errorf("API key %q: %w", k.Name, err)
		}
	}
	if out.Scope, err = authz.ParseScope(k.Scope); err != nil {
		return out, fmt.Errorf("API key %q: %w", k.Name, err)
	}
	if k.Expires != "" {
		if out.Expires, err = time.Parse(time.RFC3339, k.Expires); err != nil {
			return out, fmt.Errorf("API key %q: %w", k.Name, err)
		}
	}
	return out, nil
}

// Trusted returns the issuer as it is checked, but for CA.
func (o OIDC) Trusted() (authn.Issuer, error) {
	out := authn.Issuer{
		URL: o.Issuer, Audience: o.Audience, Algorithms: o.Algorithms, Skew: o.ClockSkew,
		Tenant: o.Tenant, TenantClaim: o.TenantClaim, Tenants: o.Tenants, RoleClaim: o.RoleClaim,
		Roles: make(map[string]brokerv1.Role, len(o.Roles)),
	}
	if out.Skew == 0 {
		out.Skew = authn.DefaultSkew
	}
	for value, name := range o.Roles {
		role, err := authz.ParseRole(name)
		if err != nil {
			return out, fmt.Errorf("issuer %s: %w", o.Issuer, err)
		}
		out.Roles[value] = role
	}
	if o.Role != "" {
		role, err := authz.ParseRole(o.Role)
		if err != nil {
			return out, fmt.Errorf("issuer %s: %w", o.Issuer, err)
		}
		out.Role = role
	}
	return out, nil
}

// Tenants returns all tenants that the configuration names.
func (c *Config) Tenants() []string {
	named := make(map[string]bool)
	for _, k := range c.APIKeys {
		named[k.Of()] = true
	}
	for _, o := range c.OIDC {
		if o.Tenant != "" {
			named[o.Tenant] = true
		}
		for _, t := range o.Tenants {
			named[t] = true
		}
	}
	for _, r := range c.Placement.Rules {
		for _, t := range r.Tenants {
			named[t] = true
		}
	}
	return slices.Sorted(maps.Keys(named))
}

func (d *decoder) checkKeys(keys []APIKey) {
	for i, k := range keys {
		field := "api_keys[" + strconv.Itoa(i) + "]"
		sound := d.sound(field) // if not, what is missing may be what could not be read
		if b, err := hex.DecodeString(k.SHA256); (err != nil || len(b) != 32) && (k.SHA256 != "" || sound) {
			d.reject(field+".sha256", k.SHA256, "the SHA-256 of the key, 64 hex digits")
		}
		if k.Name == "" && sound {
			d.failAt(d.lines[field], field+".name", "is missing: want a name for the key's holder")
		}
		d.checkTenant(field+".tenant", k.Tenant)
		d.oneOf(field+".role", k.Role, roles...)
		if _, err := authz.ParseScope(k.Scope); err != nil {
			d.failAt(d.lines[field+".scope"], field+".scope", "cannot be: %v", err)
		}
		if _, err := time.Parse(time.RFC3339, k.Expires); err != nil && k.Expires != "" {
			d.reject(field+".expires", k.Expires, "a time such as 2027-01-31T00:00:00Z")
		}
	}
}

var roles = []string{"admin", "operator", "user", "auditor"}

func (d *decoder) checkTenant(field, name string) {
	if name != "" && !authn.ValidTenant(name) {
		d.reject(field, name, authn.TenantNames)
	}
}

// maxSkew is far above what clocks that anybody looks after differ by.
const maxSkew = 10 * time.Minute

func (d *decoder) checkOIDC(issuers []OIDC) {
	seen := make(map[string]bool)
	for i, o := range issuers {
		field := "oidc[" + strconv.Itoa(i) + "]"
		sound := d.sound(field)
		if !issuerURL(o.Issuer) && (o.Issuer != "" || sound) {
			d.reject(field+".issuer", o.Issuer, "an https address, as the tokens have it; http is for this machine only")
		} else if seen[o.Issuer] && o.Issuer != "" {
			d.reject(field+".issuer", o.Issuer, "each issuer once")
		}
		seen[o.Issuer] = true
		if o.Audience == "" && sound {
			d.failAt(d.lines[field], field+".audience", "is missing: want what the issuer's tokens for this broker have as audience, or tokens for anybody would do")
		}
		for j, alg := range o.Algorithms {
			if !slices.Contains(authn.Algorithms, alg) {
				d.reject(field+".algorithms["+strconv.Itoa(j)+"]", alg, fmt.Sprintf("one of %q", authn.Algorithms))
			}
		}
		if o.ClockSkew > maxSkew {
			d.reject(field+".clock_skew", o.ClockSkew.String(), "at most "+maxSkew.String())
		}
		d.absolute(field+".ca", o.CA)
		d.checkClaims(field, o, sound)
	}
}

// issuerURL reports whether an issuer's keys can be had from an address without
// anybody on the way changing them.
func issuerURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback(net.JoinHostPort(u.Hostname(), "0"))
}

func (d *decoder) checkClaims(field string, o OIDC, sound bool) {
	d.checkTenant(field+".tenant", o.Tenant)
	if (o.Tenant == "") == (o.TenantClaim == "") && sound {
		d.failAt(d.lines[field], field, "needs exactly one of tenant and tenant_claim")
	}
	for _, value := range slices.Sorted(maps.Keys(o.Tenants)) {
		d.checkTenant(field+".tenants."+value, o.Tenants[value])
	}
	if o.Role == "" && (o.RoleClaim == "" || len(o.Roles) == 0) && sound {
		d.failAt(d.lines[field], field, "gives nobody a role: want role, or role_claim with roles")
	}
	d.oneOf(field+".role", o.Role, roles...)
	for _, value := range slices.Sorted(maps.Keys(o.Roles)) {
		d.oneOf(field+".roles."+value, o.Roles[value], roles...)
	}
}
