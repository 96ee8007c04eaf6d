package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// keysFresh is how old keys may be before they are fetched again, so that one
	// that the issuer withdrew stops being good.
	keysFresh = 10 * time.Minute
	// keysKept is how old they may be while the issuer cannot be asked.
	keysKept = 24 * time.Hour
	// fetchPause is the least time between two fetches: tokens with keys that never
	// were must not make us flood the issuer. A key that the issuer begins to use is
	// known within it.
	fetchPause = 10 * time.Second
	// fetchLimit bounds one request to an issuer.
	fetchLimit = 10 * time.Second
	// maxKeySet is far above what issuers publish.
	maxKeySet = 1 << 20
)

// keySet is the public keys of one issuer, cached. It is an oidc.KeySet.
//
// go-oidc's own never fetches keys again that it has, so that a withdrawn one
// would be good for ever, and fetches at each token with an unknown one.
type keySet struct {
	issuer string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	flight singleflight.Group

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were
	tried   time.Time // when they last should have been
	failed  bool      // the last try
}

func newKeySet(issuer string, client *http.Client, log *slog.Logger) *keySet {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if client == nil {
		client = &http.Client{Timeout: fetchLimit}
	}
	return &keySet{issuer: issuer, client: client, log: log, now: time.Now}
}

// ensure makes the key with an id available, or says why it is not.
func (s *keySet) ensure(ctx context.Context, id string) error {
	if fresh, _ := s.have(id); fresh {
		return nil
	}
	if s.due() {
		_, _, _ = s.flight.Do("", func() (any, error) {
			if s.due() { // nobody else has just done it
				s.fetch(context.WithoutCancel(ctx))
			}
			return nil, nil
		})
	}
	if _, kept := s.have(id); kept {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
			"the key %q of the token is not known, and the issuer %s cannot be asked for it now; the broker's log says why", id, s.issuer).
			With("issuer", s.issuer).WithEffect(providerv1.Effect_EFFECT_NONE).WithRetryAfter(fetchPause)
	}
	return unauthenticated("the token is signed with the key %q, which the issuer %s does not have", id, s.issuer)
}

// have reports whether there is a key, and whether it is fresh or still kept.
func (s *keySet) have(id string) (fresh, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.now().Sub(s.fetched)
	for i := range s.keys {
		if id == "" || s.keys[i].KeyID == id {
			return age < keysFresh, age < keysKept
		}
	}
	return false, false
}

// due reports whether the issuer may be asked now.
func (s *keySet) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried.IsZero() || s.now().Sub(s.tried) >= fetchPause
}

// fetch asks the issuer. Keys that are there stay if it does not answer.
func (s *keySet) fetch(ctx context.Context) {
	keys, err := s.download(ctx)
	if err != nil { // what went wrong there is the operator's to know, not the caller's
		s.log.WarnContext(ctx, "keys of the issuer cannot be fetched", "issuer", s.issuer, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.failed = s.now(), err != nil
	if err == nil {
		s.keys, s.fetched = keys, s.tried
	}
}

func (s *keySet) download(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	var where struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&where); err != nil || where.JWKS == "" {
		return nil, errors.New("discovery: it names no jwks_uri")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.JWKS, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("keys: it answered %s", resp.Status)
	}
	return publicKeys(body)
}

// publicKeys leaves out what is no key to verify with: keys of kinds that are not
// known, and those that are secret or for encryption.
func publicKeys(body []byte) ([]jose.JSONWebKey, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, errors.New("keys: they are no JSON Web Key Set")
	}
	var out []jose.JSONWebKey
	for _, r := range raw.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(r, &k) == nil && k.Valid() && k.IsPublic() && (k.Use == "" || k.Use == "sig") {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("keys: there is none to verify with")
	}
	return out, nil
}

// VerifySignature implements oidc.KeySet, with the keys that ensure made available.
func (s *keySet) VerifySignature(_ context.Context, token string) ([]byte, error) {
	algs := make([]jose.SignatureAlgorithm, len(Algorithms))
	for i, a := range Algorithms {
		algs[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSigned(token, algs) // the issuer's own, fewer ones were checked before
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("it is not signed as it must be")
	}
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	header := jws.Signatures[0].Header
	for i := range keys {
		k := &keys[i]
		if header.KeyID != "" && k.KeyID != header.KeyID || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(k); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("its signature is wrong")
}
