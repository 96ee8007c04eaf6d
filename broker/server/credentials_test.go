package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func open(t *testing.T, c *apiclient.Client) *connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse] {
	t.Helper()
	made, err := c.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	check(t, err)
	ref := &providerv1.SandboxRef{SandboxId: made.Msg.GetSandbox().GetSandboxId()}
	exec, err := c.StartExec(t.Context(), connect.NewRequest(&providerv1.StartExecRequest{Sandbox: ref, Spec: &providerv1.ExecSpec{Argv: []string{"sleep"}}}))
	check(t, err)
	stream := c.AttachExec(t.Context())
	check(t, stream.Send(&providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{
		Open: &providerv1.ExecOpen{Sandbox: ref, ExecId: exec.Msg.GetExec().GetExecId()},
	}}}))
	_, err = stream.Receive()
	check(t, err)
	return stream
}

func ended(t *testing.T, stream *connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) *fault.Error {
	t.Helper()
	var err error
	for err == nil {
		_, err = stream.Receive()
	}
	return reason(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID)
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id, secret := o.key(t, "", brokerv1.Role_ROLE_USER)
	other, otherSecret := o.key(t, "", brokerv1.Role_ROLE_USER)
	c, here := o.caller(t, secret), open(t, o.caller(t, secret))
	elsewhere := open(t, o.caller(t, otherSecret))
	// A stream that has not even said what it is about.
	silent := c.AttachExec(t.Context())
	check(t, silent.Send(nil))

	_, err := o.local.Access.RevokeAPIKey(t.Context(), connect.NewRequest(&brokerv1.RevokeAPIKeyRequest{KeyId: id}))
	check(t, err)
	_, err = c.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
	if f := reason(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID); !strings.Contains(f.Message, id+" was revoked") {
		t.Errorf("the next call: %v", f)
	}
	if f := ended(t, here); !strings.Contains(f.Message, "was revoked") {
		t.Errorf("the open stream: %v", f)
	}
	ended(t, silent)

	store, err := sqlite.Open(t.Context(), filepath.Join(o.opts.StateDir, "state.db"))
	check(t, err)
	k, err := store.Key(t.Context(), other)
	check(t, err)
	k.Body.RevokedAt = timestamppb.Now()
	check(t, store.UpdateKey(t.Context(), k.Body))
	check(t, store.Close())
	ended(t, elsewhere)
}

const patience = 6 * time.Second

func TestExpiry(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	end := time.Now().Add(patience)
	res, err := o.local.Access.CreateAPIKey(t.Context(), connect.NewRequest(&brokerv1.CreateAPIKeyRequest{
		Role: brokerv1.Role_ROLE_USER, ExpiresAt: timestamppb.New(end),
	}))
	check(t, err)
	c := o.caller(t, res.Msg.GetSecret())
	who, err := c.Access.WhoAmI(t.Context(), connect.NewRequest(&brokerv1.WhoAmIRequest{}))
	check(t, err)
	if !who.Msg.GetExpiresAt().AsTime().Equal(end) || who.Msg.GetId() != res.Msg.GetApiKey().GetKeyId() {
		t.Errorf("the holder is %v", who.Msg)
	}
	if f := ended(t, open(t, c)); !strings.Contains(f.Message, "expired at") || time.Now().Before(end) {
		t.Errorf("the stream ended with %v", f)
	}
	_, err = c.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID)
}

func TestKeysHandOutNoMore(t *testing.T) {
	o := newOffice(t, "acme")
	res, err := o.local.Access.CreateAPIKey(t.Context(), in("acme", &brokerv1.CreateAPIKeyRequest{
		Role: brokerv1.Role_ROLE_OPERATOR, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)),
	}))
	check(t, err)
	c := o.caller(t, res.Msg.GetSecret())
	soon, late := timestamppb.New(time.Now().Add(time.Minute)), timestamppb.New(time.Now().Add(2*time.Hour))
	for name, tc := range map[string]struct {
		req *brokerv1.CreateAPIKeyRequest
		ok  bool
	}{
		"user":         {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER, ExpiresAt: soon}, true},
		"its like":     {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_OPERATOR, ExpiresAt: soon}, true},
		"admin":        {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_ADMIN, ExpiresAt: soon}, false},
		"meek admin":   {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_ADMIN, ExpiresAt: soon, Scope: &brokerv1.Scope{Permissions: []string{"exec"}}}, false},
		"lasts longer": {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER, ExpiresAt: late}, false},
		"lasts":        {&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER}, false},
	} {
		_, err := c.Access.CreateAPIKey(t.Context(), connect.NewRequest(tc.req))
		if (err == nil) != tc.ok || err != nil && !fault.Has(err, insufficient) {
			t.Errorf("%s: %v", name, err)
		}
	}
	boss, _ := o.key(t, "acme", brokerv1.Role_ROLE_ADMIN)
	_, err = c.Access.RevokeAPIKey(t.Context(), connect.NewRequest(&brokerv1.RevokeAPIKeyRequest{KeyId: boss}))
	reason(t, err, insufficient)
	foreign, _ := o.key(t, "default", brokerv1.Role_ROLE_USER)
	_, err = c.Access.RevokeAPIKey(t.Context(), connect.NewRequest(&brokerv1.RevokeAPIKeyRequest{KeyId: foreign}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
}

func TestTokensOfAnIssuer(t *testing.T) {
	t.Parallel()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	var issuer *httptest.Server
	mux := http.NewServeMux()
	serve := func(path string, what func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(what()) })
	}
	serve("/.well-known/openid-configuration", func() any { return map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"} })
	serve("/keys", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: pair.Public(), KeyID: "k", Use: "sig"}}}
	})
	issuer = httptest.NewTLSServer(mux)
	t.Cleanup(issuer.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}), 0o600))
	c := config.Default()
	c.OIDC = []config.OIDC{{
		Issuer: issuer.URL, Audience: "sandbar", CA: ca, TenantClaim: "org", Tenants: map[string]string{"Acme Inc.": "acme"},
		RoleClaim: "groups", Roles: map[string]string{"ops": "operator"}, Role: "auditor",
	}}
	o := officeWith(t, c)
	token := func(claims map[string]any) string {
		claims["iss"], claims["aud"], claims["sub"] = issuer.URL, "sandbar", "bob"
		if claims["exp"] == nil {
			claims["exp"] = time.Now().Add(time.Hour).Unix()
		}
		sg, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: pair, KeyID: "k"}}, nil)
		check(t, err)
		body, err := json.Marshal(claims)
		check(t, err)
		jws, err := sg.Sign(body)
		check(t, err)
		out, err := jws.CompactSerialize()
		check(t, err)
		return out
	}
	ops := o.caller(t, token(map[string]any{"org": "Acme Inc.", "groups": []string{"ops"}}))
	who, err := ops.Access.WhoAmI(t.Context(), connect.NewRequest(&brokerv1.WhoAmIRequest{}))
	check(t, err)
	if w := who.Msg; w.GetKind() != brokerv1.CallerKind_CALLER_KIND_OIDC || w.GetId() != "bob" || w.GetIssuer() != issuer.URL ||
		w.GetTenant() != "acme" || w.GetRole() != brokerv1.Role_ROLE_OPERATOR {
		t.Errorf("bob is %v", w)
	}
	// A person makes keys that last, although a token does not.
	made, err := ops.Access.CreateAPIKey(t.Context(), connect.NewRequest(&brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER}))
	check(t, err)
	if k := made.Msg.GetApiKey(); k.GetTenant() != "acme" || k.GetCreatedBy() != "bob" {
		t.Errorf("the key is %v", k)
	}
	other := o.caller(t, token(map[string]any{"org": "Acme Inc."}))
	_, err = other.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	reason(t, err, insufficient)
	_, err = o.caller(t, token(map[string]any{"org": "Other Inc."})).ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
	reason(t, err, insufficient)
	// Its end, and the skew that clocks may have, end a stream.
	short := o.caller(t, token(map[string]any{"org": "Acme Inc.", "groups": "ops", "exp": time.Now().Add(-24 * time.Second).Unix()}))
	if f := ended(t, open(t, short)); !strings.Contains(f.Message, "the token of bob expired at") {
		t.Errorf("the stream ended with %v", f)
	}
}
