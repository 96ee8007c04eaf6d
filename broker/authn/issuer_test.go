package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandbar-dev/sandbar/broker/authz"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// provider is a real issuer on this machine.
type provider struct {
	*httptest.Server
	fetches atomic.Int64

	mu   sync.Mutex
	keys jose.JSONWebKeySet
	down bool
	as   string // what it calls itself, if not by its address
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.answer(w, func() any {
			name := p.URL
			if p.as != "" {
				name = p.as
			}
			return map[string]any{"issuer": name, "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}}
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		p.answer(w, func() any { return p.keys })
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) answer(w http.ResponseWriter, what func() any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		http.Error(w, "a page with internals", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what())
}

// set changes what the issuer says.
func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// signer is a key of an issuer.
type signer struct {
	id  string
	alg jose.SignatureAlgorithm
	key any
}

func newSigner(t *testing.T, id string, alg jose.SignatureAlgorithm) signer {
	t.Helper()
	var key any
	var err error
	switch alg {
	case jose.RS256, jose.PS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	check(t, err)
	return signer{id, alg, key}
}

func (s signer) public() jose.JSONWebKey {
	k, ok := s.key.(crypto.Signer)
	if !ok {
		panic("no key pair")
	}
	return jose.JSONWebKey{Key: k.Public(), KeyID: s.id, Use: "sig"}
}

func (s signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	sg, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: jose.JSONWebKey{Key: s.key, KeyID: s.id}}, nil)
	check(t, err)
	body, err := json.Marshal(claims)
	check(t, err)
	jws, err := sg.Sign(body)
	check(t, err)
	token, err := jws.CompactSerialize()
	check(t, err)
	return token
}

// desk recognizes the tokens of one issuer.
type desk struct {
	*provider
	signer signer
	auth   *Authenticator
	issuer *issuer

	mu  sync.Mutex
	now time.Duration // how far the keys' clock is ahead
}

func newDesk(t *testing.T, change func(*Issuer)) *desk {
	t.Helper()
	d := openDirectory(t, newStore(t), time.Hour)
	check(t, d.EnsureTenants(t.Context(), "acme"))
	p := newProvider(t)
	s := newSigner(t, "first", jose.RS256)
	p.keys.Keys = []jose.JSONWebKey{s.public()}
	c := Issuer{
		URL: p.URL, Audience: "sandbar", Skew: 10 * time.Second, TenantClaim: "org", RoleClaim: "groups",
		Roles:  map[string]brokerv1.Role{"ops": brokerv1.Role_ROLE_OPERATOR, "dev": brokerv1.Role_ROLE_USER, "audit": brokerv1.Role_ROLE_AUDITOR},
		Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if change != nil {
		change(&c)
	}
	auth, err := NewAuthenticator(d, nil, []Issuer{c})
	check(t, err)
	k := &desk{provider: p, signer: s, auth: auth, issuer: auth.issuers[p.URL]}
	k.issuer.keys.now = func() time.Time {
		k.mu.Lock()
		defer k.mu.Unlock()
		return time.Now().Add(k.now)
	}
	return k
}

func (d *desk) pass(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now += t
}

// claims are those of a good token, but for change.
func (d *desk) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": d.URL, "aud": "sandbar", "sub": "bob", "email": "bob@example.com", "org": "acme", "groups": []string{"dev"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (d *desk) bearer(t *testing.T, token string) (authz.Principal, error) {
	t.Helper()
	p, err := d.auth.Bearer(t.Context(), "Bearer "+token)
	if err != nil && strings.Contains(err.Error(), token) {
		t.Errorf("the error tells the token: %v", err)
	}
	return p, err
}

func TestTokens(t *testing.T) {
	const insufficient = providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT
	d := newDesk(t, nil)
	ago := func(s int) int64 { return time.Now().Add(-time.Duration(s) * time.Second).Unix() }
	for name, tc := range map[string]struct {
		claims map[string]any
		role   brokerv1.Role
		reason providerv1.ErrorReason
		says   string
	}{
		"good":                {claims: nil, role: brokerv1.Role_ROLE_USER},
		"several audiences":   {claims: map[string]any{"aud": []string{"x", "sandbar"}}, role: brokerv1.Role_ROLE_USER},
		"strongest role":      {claims: map[string]any{"groups": []string{"audit", "other", "ops", "dev"}}, role: brokerv1.Role_ROLE_OPERATOR},
		"one role":            {claims: map[string]any{"groups": "audit"}, role: brokerv1.Role_ROLE_AUDITOR},
		"expired in the skew": {claims: map[string]any{"exp": ago(5)}, role: brokerv1.Role_ROLE_USER},
		"early in the skew":   {claims: map[string]any{"nbf": ago(-5)}, role: brokerv1.Role_ROLE_USER},
		"expired":             {claims: map[string]any{"exp": ago(15)}, reason: invalid, says: "the token expired at"},
		"no expiry":           {claims: map[string]any{"exp": nil}, reason: invalid, says: "the token expired at"},
		"early":               {claims: map[string]any{"nbf": ago(-30)}, reason: invalid, says: "the token holds from"},
		"other audience":      {claims: map[string]any{"aud": "other"}, reason: invalid, says: `expected audience "sandbar"`},
		"no audience":         {claims: map[string]any{"aud": nil}, reason: invalid, says: `expected audience "sandbar"`},
		"other issuer":        {claims: map[string]any{"iss": "https://evil.example.com"}, reason: invalid, says: "which this broker does not know"},
		"no issuer":           {claims: map[string]any{"iss": nil}, reason: invalid, says: "it names no issuer"},
		"no subject":          {claims: map[string]any{"sub": nil}, reason: invalid, says: "has no subject"},
		"no tenant":           {claims: map[string]any{"org": nil}, reason: insufficient, says: `gives no tenant: its claim "org" is []`},
		"two tenants":         {claims: map[string]any{"org": []string{"acme", "b"}}, reason: insufficient, says: "want one value"},
		"unknown tenant":      {claims: map[string]any{"org": "nobody"}, reason: invalid, says: "the tenant nobody does not exist"},
		"every tenant":        {claims: map[string]any{"org": authz.AllTenants}, reason: invalid, says: "the tenant * does not exist"},
		"unmapped role":       {claims: map[string]any{"groups": []string{"admin"}}, reason: insufficient, says: `gives no role: its claim "groups" is ["admin"]`},
		"no role":             {claims: map[string]any{"groups": nil}, reason: insufficient, says: "gives no role"},
	} {
		t.Run(name, func(t *testing.T) {
			token := d.signer.sign(t, d.claims(tc.claims))
			for range 2 { // the second time it may be known
				p, err := d.bearer(t, token)
				if tc.says != "" {
					refused(t, err, tc.reason, tc.says)
					continue
				}
				check(t, err)
				if p.Role != tc.role || p.Tenant != "acme" || p.ID != "bob" || p.Issuer != d.URL || p.Name != "bob@example.com" || p.Expires.IsZero() {
					t.Errorf("the holder is %+v", p)
				}
			}
		})
	}
	if n := d.fetches.Load(); n != 1 {
		t.Errorf("keys were fetched %d times, want once", n)
	}
}

func TestForgedTokens(t *testing.T) {
	d := newDesk(t, nil)
	good := d.signer.sign(t, d.claims(nil))
	_, err := d.bearer(t, good)
	check(t, err)
	parts := strings.Split(good, ".")
	raw := func(v any) string {
		b, err := json.Marshal(v)
		check(t, err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	admin := raw(d.claims(map[string]any{"groups": []string{"ops"}}))
	other := newSigner(t, "first", jose.RS256) // another key under the same id
	// What is public must not do as a secret.
	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(d.signer.public().Key.(*rsa.PublicKey).N.String())}, nil)
	check(t, err)
	body, err := json.Marshal(d.claims(nil))
	check(t, err)
	jws, err := hmac.Sign(body)
	check(t, err)
	symmetric, err := jws.CompactSerialize()
	check(t, err)
	ps := signer{"first", jose.PS256, d.signer.key}
	for name, tc := range map[string]struct{ token, says string }{
		"alg none":             {raw(map[string]string{"alg": "none", "kid": "first"}) + "." + admin + ".", "is not signed by one of RS256, ES256, EdDSA"},
		"alg none, signed":     {raw(map[string]string{"alg": "none"}) + "." + admin + "." + parts[2], "is not signed by one of"},
		"symmetric":            {symmetric, "is not signed by one of"},
		"not allowed here":     {ps.sign(t, d.claims(nil)), "is not signed by one of"},
		"changed":              {parts[0] + "." + admin + "." + parts[2], "its signature is wrong"},
		"no signature":         {parts[0] + "." + parts[1] + ".", "does not hold"},
		"key of somebody":      {other.sign(t, d.claims(nil)), "its signature is wrong"},
		"unknown key":          {newSigner(t, "x", jose.RS256).sign(t, d.claims(nil)), `signed with the key "x", which the issuer`},
		"garbage":              {"a.b.c", "cannot be read"},
		"no token":             {"abc", "it is no JSON Web Token"},
		"huge":                 {strings.Repeat("a", maxToken) + ".b.c", "at most 16384 bytes"},
		"claims are no claims": {parts[0] + "." + raw([]int{1}) + "." + parts[2], "names no issuer"},
	} {
		_, err := d.bearer(t, tc.token)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
		refused(t, err, invalid, "")
	}
}

func TestAlgorithms(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA} {
		d := newDesk(t, nil)
		s := newSigner(t, "k", alg)
		d.set(func() { d.keys.Keys = []jose.JSONWebKey{s.public()} })
		_, err := d.bearer(t, s.sign(t, d.claims(nil)))
		check(t, err)
	}
	d := newDesk(t, func(c *Issuer) { c.Algorithms = []string{"ES256"} })
	_, err := d.bearer(t, d.signer.sign(t, d.claims(nil)))
	refused(t, err, invalid, "is not signed by one of ES256")
}

func TestMapping(t *testing.T) {
	d := newDesk(t, func(c *Issuer) {
		c.Tenants = map[string]string{"Acme Inc.": "acme"}
		c.Role = brokerv1.Role_ROLE_USER
	})
	p, err := d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"org": "Acme Inc.", "groups": nil})))
	check(t, err)
	if p.Tenant != "acme" || p.Role != brokerv1.Role_ROLE_USER {
		t.Errorf("the holder is %+v", p)
	}
	p, err = d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"org": "Acme Inc.", "groups": "audit"})))
	check(t, err)
	if p.Role != brokerv1.Role_ROLE_AUDITOR {
		t.Errorf("the role by default wins over that of the claim: %+v", p)
	}
	_, err = d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"org": "acme"})))
	refused(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT, "gives no tenant")
	fixed := newDesk(t, func(c *Issuer) { c.Tenant, c.TenantClaim = "default", "" })
	p, err = fixed.bearer(t, fixed.signer.sign(t, fixed.claims(nil)))
	check(t, err)
	if p.Tenant != "default" {
		t.Errorf("the holder is %+v", p)
	}
}

// TestATokenThatIsKnownStillEnds at its time.
func TestATokenThatIsKnownStillEnds(t *testing.T) {
	d := newDesk(t, func(c *Issuer) { c.Skew = 0 })
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	token := d.signer.sign(t, d.claims(map[string]any{"exp": end.Unix()}))
	who, err := d.bearer(t, token)
	check(t, err)
	ctx, stop := d.auth.directory.Watch(t.Context(), who)
	defer stop()
	<-ctx.Done()
	if time.Now().Before(end) {
		t.Error("its calls ended before it did")
	}
	_, err = d.bearer(t, token)
	refused(t, err, invalid, "the token expired at")
}
