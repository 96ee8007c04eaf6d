package authn

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// ConfiguredKey is a key that the configuration has the hash of.
type ConfiguredKey struct {
	Name string
	// Hash is what HashKey returns.
	Hash   string
	Tenant string
	Role   brokerv1.Role
	Scope  *brokerv1.Scope
	// Expires is when it ends; zero: never.
	Expires time.Time
}

// Authenticator recognizes callers by what they send.
type Authenticator struct {
	directory  *Directory
	configured map[string]authz.Principal // by hash
	issuers    map[string]*issuer
}

// NewAuthenticator returns an authenticator for the keys of a directory and what
// the configuration says. It asks no issuer yet, so that a broker starts while one
// is down.
func NewAuthenticator(d *Directory, keys []ConfiguredKey, issuers []Issuer) (*Authenticator, error) {
	a := &Authenticator{directory: d, configured: make(map[string]authz.Principal), issuers: make(map[string]*issuer)}
	for _, k := range keys {
		hash, err := hex.DecodeString(k.Hash)
		if err != nil || len(hash) != len(hashKey("")) {
			return nil, fmt.Errorf("hash of API key %q is %q: want 64 hex digits, the SHA-256 of the key", k.Name, k.Hash)
		}
		a.configured[string(hash)] = authz.Principal{
			Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY, ID: "config:" + k.Name, Name: k.Name,
			Tenant: k.Tenant, Role: k.Role, Scope: k.Scope, Expires: k.Expires,
		}
	}
	for _, c := range issuers {
		a.issuers[c.URL] = newIssuer(c)
	}
	return a, nil
}

// Bearer recognizes who sent the header "Authorization: Bearer …". The error is a
// fault.
func (a *Authenticator) Bearer(ctx context.Context, header string) (authz.Principal, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || credential == "":
		return authz.Principal{}, unauthenticated("no credential: send the header \"Authorization: Bearer …\" with an API key%s", a.orToken())
	case strings.HasPrefix(credential, KeyPrefix):
		return a.key(ctx, credential)
	default:
		return a.token(ctx, credential)
	}
}

func (a *Authenticator) orToken() string {
	if len(a.issuers) == 0 {
		return ", which begins with " + KeyPrefix
	}
	return " or a token"
}

func (a *Authenticator) key(ctx context.Context, key string) (authz.Principal, error) {
	// Whoever times this learns of the hash of what they sent, which they know.
	if p, ok := a.configured[string(hashKey(key))]; ok {
		if !p.Expires.IsZero() && !time.Now().Before(p.Expires) {
			return authz.Principal{}, expired(p.String(), p.Expires)
		}
		return p, a.tenant(ctx, p)
	}
	return a.directory.key(ctx, key)
}

func (a *Authenticator) token(ctx context.Context, token string) (authz.Principal, error) {
	if len(a.issuers) == 0 {
		return authz.Principal{}, unauthenticated("the credential is no API key: those begin with %s, and no issuer of tokens is configured", KeyPrefix)
	}
	url, err := issuerOf(token)
	if err != nil {
		return authz.Principal{}, unauthenticated("the token cannot be read: %w", err)
	}
	i, ok := a.issuers[url]
	if !ok {
		return authz.Principal{}, unauthenticated("the token is of the issuer %q, which this broker does not know", url)
	}
	p, err := i.principal(ctx, token)
	if err != nil {
		return p, err
	}
	return p, a.tenant(ctx, p)
}

// tenant refuses a caller whose tenant there is not.
func (a *Authenticator) tenant(ctx context.Context, p authz.Principal) error {
	_, err := a.directory.tenants.get(ctx, p.Tenant)
	if errors.Is(err, state.ErrNotFound) {
		return tenantGone(p.Tenant)
	}
	return state.Fault(err)
}
