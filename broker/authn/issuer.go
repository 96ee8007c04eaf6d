package authn

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Issuer is what the configuration says about one OpenID Connect issuer.
type Issuer struct {
	// URL is the issuer's, as its tokens have it.
	URL string
	// Audience must be among a token's.
	Audience string
	// Algorithms that may sign; empty: DefaultAlgorithms.
	Algorithms []string
	// Skew is how far the issuer's clock may be from ours.
	Skew time.Duration
	// Tenant is that of every token; empty: TenantClaim names it.
	Tenant string
	// TenantClaim is the claim with a tenant, or with a key of Tenants.
	TenantClaim string
	// Tenants maps values of the claim to tenants; nil: they are tenants' names.
	Tenants map[string]string
	// RoleClaim is a claim with one value or a list, each a key of Roles.
	RoleClaim string
	Roles     map[string]brokerv1.Role
	// Role is that of tokens whose claim gives none; unspecified: they are refused.
	Role brokerv1.Role
	// Client makes the requests to the issuer. Nil: one with a time limit.
	Client *http.Client
	// Log is told when the issuer cannot be asked. Nil: nobody is.
	Log *slog.Logger
}

// DefaultAlgorithms are the asymmetric ones that issuers use. No symmetric one can
// be allowed, because a public key would then be a secret; nor none.
var DefaultAlgorithms = []string{oidc.RS256, oidc.ES256, oidc.EdDSA}

// Algorithms are all that can be allowed.
var Algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

const (
	// DefaultSkew is for clocks that are set by NTP, badly.
	DefaultSkew = 30 * time.Second
	// maxToken bounds what is parsed; tokens with many groups have a few KiB.
	maxToken = 16 << 10
	// verifiedFor is how long a verified token is not verified again: a signature
	// costs some 50 µs.
	verifiedFor = time.Minute
)

// issuer verifies the tokens of one issuer.
type issuer struct {
	Issuer
	keys     *keySet
	algs     []jose.SignatureAlgorithm
	verifier *oidc.IDTokenVerifier

	mu       sync.Mutex
	verified map[[sha256.Size]byte]verified
}

type verified struct {
	p     authz.Principal
	until time.Time
}

func newIssuer(c Issuer) *issuer {
	if len(c.Algorithms) == 0 {
		c.Algorithms = DefaultAlgorithms
	}
	i := &issuer{Issuer: c, keys: newKeySet(c.URL, c.Client, c.Log)}
	for _, alg := range c.Algorithms {
		i.algs = append(i.algs, jose.SignatureAlgorithm(alg))
	}
	i.verifier = oidc.NewVerifier(c.URL, i.keys, &oidc.Config{
		ClientID: c.Audience, SupportedSigningAlgs: c.Algorithms,
		Now: func() time.Time { return time.Now().Add(-c.Skew) },
	})
	return i
}

// principal recognizes the holder of a token.
func (i *issuer) principal(ctx context.Context, token string) (authz.Principal, error) {
	sum := sha256.Sum256([]byte(token))
	if p, ok := i.known(sum, time.Now()); ok {
		return p, nil
	}
	claims, err := i.verify(ctx, token)
	if err != nil {
		return authz.Principal{}, err
	}
	p, err := i.mapped(claims)
	if err != nil {
		return authz.Principal{}, err
	}
	i.keep(sum, p, time.Now())
	return p, nil
}

func (i *issuer) known(sum [sha256.Size]byte, now time.Time) (authz.Principal, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	v, ok := i.verified[sum]
	return v.p, ok && now.Before(v.until)
}

func (i *issuer) keep(sum [sha256.Size]byte, p authz.Principal, now time.Time) {
	until := now.Add(verifiedFor)
	if p.Expires.Before(until) {
		until = p.Expires
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verified == nil || len(i.verified) >= maxCached {
		i.verified = make(map[[sha256.Size]byte]verified)
	}
	i.verified[sum] = verified{p, until}
}

// claims are what a token says.
type claims struct {
	subject, name string
	expires       time.Time
	all           map[string]any
}

// verify checks a token's signature and what it says of itself.
func (i *issuer) verify(ctx context.Context, token string) (claims, error) {
	jws, err := jose.ParseSigned(token, i.algs)
	if err != nil || len(jws.Signatures) != 1 {
		return claims{}, unauthenticated("the token is not signed by one of %s, as %s must", strings.Join(i.Algorithms, ", "), i.URL)
	}
	if err := i.keys.ensure(ctx, jws.Signatures[0].Header.KeyID); err != nil {
		return claims{}, err
	}
	t, err := i.verifier.Verify(ctx, token)
	if err != nil {
		var late *oidc.TokenExpiredError
		if errors.As(err, &late) {
			return claims{}, expired("the token", late.Expiry)
		}
		return claims{}, unauthenticated("the token of %s does not hold: %s", i.URL, strings.TrimPrefix(err.Error(), "oidc: "))
	}
	c := claims{subject: t.Subject, expires: t.Expiry.Add(i.Skew)}
	if err := t.Claims(&c.all); err != nil {
		return claims{}, unauthenticated("the token of %s has claims that cannot be read", i.URL)
	}
	if nbf, ok := c.all["nbf"].(float64); ok && time.Now().Add(i.Skew).Before(time.Unix(int64(nbf), 0)) {
		return claims{}, unauthenticated("the token holds from %s on only", time.Unix(int64(nbf), 0).UTC().Format(time.RFC3339))
	}
	if c.subject == "" {
		return claims{}, unauthenticated("the token of %s has no subject", i.URL)
	}
	for _, claim := range []string{"email", "preferred_username", "name"} {
		if c.name, _ = c.all[claim].(string); c.name != "" {
			break
		}
	}
	return c, nil
}

// mapped gives a token's holder a tenant and a role, as the configuration says.
func (i *issuer) mapped(c claims) (authz.Principal, error) {
	p := authz.Principal{
		Kind: brokerv1.CallerKind_CALLER_KIND_OIDC, ID: c.subject, Issuer: i.URL, Name: c.name, Expires: c.expires,
		Tenant: i.Tenant,
	}
	if p.Tenant == "" {
		value := values(c.all[i.TenantClaim])
		if len(value) != 1 {
			return p, unmapped("tenant", i.TenantClaim, value, "one value that names a tenant")
		}
		p.Tenant = value[0]
		if i.Tenants != nil {
			if p.Tenant = i.Tenants[value[0]]; p.Tenant == "" {
				return p, unmapped("tenant", i.TenantClaim, value, "one that the broker's configuration maps to a tenant")
			}
		}
	}
	given := values(c.all[i.RoleClaim])
	for _, value := range given {
		if role, ok := i.Roles[value]; ok && (p.Role == brokerv1.Role_ROLE_UNSPECIFIED || role < p.Role) {
			p.Role = role // they are numbered from the one that may do most
		}
	}
	if p.Role == brokerv1.Role_ROLE_UNSPECIFIED {
		p.Role = i.Role
	}
	if p.Role == brokerv1.Role_ROLE_UNSPECIFIED {
		return p, unmapped("role", i.RoleClaim, given, "one that the broker's configuration maps to a role")
	}
	return p, nil
}

func unmapped(what, claim string, have []string, want string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
		"the token gives no %s: its claim %q is %q; want %s", what, claim, have, want).With("claim", claim)
}

// values are those of a claim that is a text or a list of texts.
func values(claim any) []string {
	switch claim := claim.(type) {
	case string:
		return []string{claim}
	case []any:
		var out []string
		for _, v := range claim {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
		return out
	default:
		return nil
	}
}

// issuerOf returns what a token says of its issuer. Nothing is believed yet: it
// only tells whose keys to try.
func issuerOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return "", fmt.Errorf("it is no JSON Web Token of at most %d bytes", maxToken)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("it is no JSON Web Token")
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &c) != nil || c.Issuer == "" {
		return "", errors.New("it names no issuer")
	}
	return c.Issuer, nil
}
