package authn

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const invalid = providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID

// counted counts what is read of a store.
type counted struct {
	state.Store
	keys, tenants atomic.Int64
}

func (c *counted) Key(ctx context.Context, id string) (*state.Key, error) {
	c.keys.Add(1)
	return c.Store.Key(ctx, id)
}

func (c *counted) Tenant(ctx context.Context, name string) (*brokerv1.Tenant, error) {
	c.tenants.Add(1)
	return c.Store.Tenant(ctx, name)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, reason providerv1.ErrorReason, says string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != reason || !strings.Contains(f.Message, says) {
		t.Errorf("error is %v, want %v with %q", err, reason, says)
	}
}

func newStore(t *testing.T) *counted {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return &counted{Store: s}
}

// soon is an interval that tests can wait for.
const soon = 20 * time.Millisecond

func openDirectory(t *testing.T, s Store, interval time.Duration) *Directory {
	t.Helper()
	d := newDirectory(s, nil, nil, interval)
	t.Cleanup(d.Close)
	return d
}

// as is a context of a call by the local user for a tenant.
func as(ctx context.Context, tenant string) context.Context {
	p := authz.Local("0")
	p.Acting = tenant
	return authz.With(ctx, p)
}

func makeKey(t *testing.T, d *Directory, tenant string) (id, secret string) {
	t.Helper()
	k, secret, err := d.CreateAPIKey(as(t.Context(), tenant), &brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER, Name: "n"})
	check(t, err)
	return k.GetKeyId(), secret
}

func TestKeysAreRecognized(t *testing.T) {
	store := newStore(t)
	d := openDirectory(t, store, RecheckInterval)
	check(t, d.EnsureTenants(t.Context(), "acme", "default"))
	_, conf, _ := NewKey()
	_, ended, _ := NewKey()
	_, homeless, _ := NewKey()
	auth, err := NewAuthenticator(d, []ConfiguredKey{
		{Name: "c", Hash: HashKey(conf), Tenant: "acme", Role: brokerv1.Role_ROLE_AUDITOR},
		{Name: "e", Hash: HashKey(ended), Tenant: "acme", Role: brokerv1.Role_ROLE_USER, Expires: time.Now()},
		{Name: "h", Hash: HashKey(homeless), Tenant: "nobody", Role: brokerv1.Role_ROLE_USER},
	}, nil)
	check(t, err)
	id, secret := makeKey(t, d, "acme")
	if KeyID(secret) != id || len(secret) != 43 {
		t.Errorf("the key %s has the id %s", secret, id)
	}
	p, err := auth.Bearer(t.Context(), "Bearer "+secret)
	check(t, err)
	if p.ID != id || p.Tenant != "acme" || p.Role != brokerv1.Role_ROLE_USER || p.Name != "n" {
		t.Errorf("its holder is %+v", p)
	}
	p, err = auth.Bearer(t.Context(), "bearer "+conf)
	check(t, err)
	if p.ID != "config:c" || p.Tenant != "acme" || p.Role != brokerv1.Role_ROLE_AUDITOR {
		t.Errorf("the holder of a configured key is %+v", p)
	}
	for header, says := range map[string]string{
		"": "no credential", "Bearer": "no credential", "Basic abc": "no credential", "Bearer abc": "is no API key",
		"Bearer sbk_": "not known", "Bearer " + secret + "x": "not known", "Bearer " + id: "not known", "Bearer " + id + "_": "not known",
		"Bearer " + secret[:len(secret)-1] + "!": "not known", "Bearer sbk_aaaaaaaaaaaa_" + secret[17:]: "not known",
		"Bearer " + ended: "config:e expired at", "Bearer " + homeless: "the tenant nobody does not exist",
	} {
		_, err := auth.Bearer(t.Context(), header)
		refused(t, err, invalid, says)
		if err != nil && (strings.Contains(err.Error(), secret[17:40]) || strings.Contains(err.Error(), ended)) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
	if _, err := NewAuthenticator(d, []ConfiguredKey{{Name: "x", Hash: "abc"}}, nil); err == nil {
		t.Error("a hash that is none was accepted")
	}
	stored, err := store.Store.Key(t.Context(), id)
	check(t, err)
	if len(stored.Hash) != 32 || strings.Contains(stored.Body.String(), secret[17:]) || strings.Contains(string(stored.Hash), secret[17:]) {
		t.Errorf("more than a hash is stored: %v", stored)
	}
}

// TestCallsReadNothing: the hot path costs no read of the store.
func TestCallsReadNothing(t *testing.T) {
	store := newStore(t)
	d := openDirectory(t, store, time.Hour)
	_, conf, _ := NewKey()
	auth, err := NewAuthenticator(d, []ConfiguredKey{{Name: "c", Hash: HashKey(conf), Tenant: "default", Role: brokerv1.Role_ROLE_USER}}, nil)
	check(t, err)
	_, secret := makeKey(t, d, "default")
	for range 1000 {
		for _, key := range []string{secret, conf} {
			_, err := auth.Bearer(t.Context(), "Bearer "+key)
			check(t, err)
		}
	}
	if k, n := store.keys.Load(), store.tenants.Load(); k != 1 || n != 1 {
		t.Errorf("2000 calls read %d keys and %d tenants, want 1 of each", k, n)
	}
}

// TestRevocationIsSeen by the process that does it at once, although it has the
// key in its cache, and by another one after the interval.
func TestRevocationIsSeen(t *testing.T) {
	store := newStore(t)
	here, there := openDirectory(t, store, time.Hour), openDirectory(t, store, soon)
	id, secret := makeKey(t, here, "default")
	who, err := here.key(t.Context(), secret)
	check(t, err)
	_, err = there.key(t.Context(), secret)
	check(t, err)
	open, stop := here.Watch(t.Context(), who)
	defer stop()
	far, stop := there.Watch(t.Context(), who)
	defer stop()
	_, err = here.RevokeAPIKey(as(t.Context(), "default"), id)
	check(t, err)
	if open.Err() == nil {
		t.Error("an open call goes on where its key was revoked")
	}
	refused(t, context.Cause(open), invalid, "was revoked")
	_, err = here.key(t.Context(), secret)
	refused(t, err, invalid, "was revoked")
	<-far.Done()
	refused(t, context.Cause(far), invalid, "was revoked")
	// Its cache is as old as the loop's interval at most.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := there.key(t.Context(), secret); err != nil {
			refused(t, err, invalid, "was revoked")
			break
		}
		<-tick.C
	}
	// It stays as it was revoked first.
	first, err := store.Store.Key(t.Context(), id)
	check(t, err)
	again, err := there.RevokeAPIKey(as(t.Context(), authz.AllTenants), id)
	check(t, err)
	if !again.GetRevokedAt().AsTime().Equal(first.Body.GetRevokedAt().AsTime()) || again.GetRevokedBy() != "uid:0" {
		t.Errorf("revoked twice it is %v", again)
	}
}

// TestForgottenWhileRead: what was read before a revocation is not kept after it.
func TestForgottenWhileRead(t *testing.T) {
	reading, goOn := make(chan struct{}), make(chan struct{})
	value := "old"
	c := &cache[string]{life: time.Hour, read: func(context.Context, string) (string, error) {
		v := value
		if v == "old" {
			close(reading)
			<-goOn
		}
		return v, nil
	}}
	done := make(chan string)
	go func() { v, _ := c.get(t.Context(), "x"); done <- v }()
	<-reading
	value = "new"
	c.forget("x")
	got, err := c.get(t.Context(), "x") // does not join the read under way
	check(t, err)
	close(goOn)
	<-done
	again, err := c.get(t.Context(), "x")
	check(t, err)
	if got != "new" || again != "new" {
		t.Errorf("after it was forgotten it is %q, then %q", got, again)
	}
}

func TestTenantThatGoesEndsCalls(t *testing.T) {
	store := newStore(t)
	d := openDirectory(t, store, time.Hour)
	check(t, d.EnsureTenants(t.Context(), "acme"))
	_, secret := makeKey(t, d, "acme")
	who, err := d.key(t.Context(), secret)
	check(t, err)
	token := authz.Principal{Kind: brokerv1.CallerKind_CALLER_KIND_OIDC, ID: "bob", Tenant: "acme"}
	byKey, stop := d.Watch(t.Context(), who)
	defer stop()
	byToken, stop := d.Watch(t.Context(), token)
	defer stop()
	check(t, d.CheckTenant(t.Context(), "acme"))
	absent, err := d.DeleteTenant(as(t.Context(), "default"), "acme")
	if absent || err != nil {
		t.Errorf("deleted: absent %t, %v", absent, err)
	}
	refused(t, context.Cause(byKey), invalid, "not known")
	refused(t, context.Cause(byToken), invalid, "the tenant acme does not exist")
	refused(t, d.CheckTenant(t.Context(), "acme"), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, `tenant is "acme"`)
	_, err = d.key(t.Context(), secret)
	refused(t, err, invalid, "not known")
}

// silent cannot tell about volumes of one provider.
type silent struct{ list *brokerv1.ListVolumesResponse }

func (s silent) ListVolumes(ctx context.Context, _ string) (*brokerv1.ListVolumesResponse, error) {
	if p, _ := authz.From(ctx); p.Acting != "acme" {
		return nil, errors.New("asked for " + p.Acting)
	}
	return s.list, nil
}

func TestTenantWithVolumesStays(t *testing.T) {
	store := newStore(t)
	d := openDirectory(t, store, time.Hour)
	check(t, d.EnsureTenants(t.Context(), "acme"))
	d.volumes = silent{&brokerv1.ListVolumesResponse{Volumes: []*brokerv1.Volume{{Volume: &providerv1.Volume{Name: "v"}}}}}
	_, err := d.DeleteTenant(as(t.Context(), "default"), "acme")
	refused(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE, "has 1 volumes")
	d.volumes = silent{&brokerv1.ListVolumesResponse{Unreachable: map[string]string{"p": "down"}}}
	_, err = d.DeleteTenant(as(t.Context(), "default"), "acme")
	refused(t, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "at p cannot be told: down")
	d.volumes = silent{&brokerv1.ListVolumesResponse{}}
	_, err = d.DeleteTenant(as(t.Context(), "default"), "acme")
	check(t, err)
	_, err = d.DeleteTenant(as(t.Context(), "default"), "default")
	refused(t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "stays")
}

func TestWrongRequestsOfKeys(t *testing.T) {
	d := openDirectory(t, newStore(t), time.Hour)
	for name, tc := range map[string]struct {
		tenant string
		req    *brokerv1.CreateAPIKeyRequest
		says   string
	}{
		"no role":        {"default", &brokerv1.CreateAPIKeyRequest{}, "want admin, operator, user or auditor"},
		"unknown role":   {"default", &brokerv1.CreateAPIKeyRequest{Role: 99}, "want admin, operator, user or auditor"},
		"scope":          {"default", &brokerv1.CreateAPIKeyRequest{Role: 3, Scope: &brokerv1.Scope{Permissions: []string{"x"}}}, `"x" is not a permission`},
		"past":           {"default", &brokerv1.CreateAPIKeyRequest{Role: 3, ExpiresAt: timestamppb.New(time.Now().Add(-time.Second))}, "want a time to come"},
		"long name":      {"default", &brokerv1.CreateAPIKeyRequest{Role: 3, Name: strings.Repeat("x", 256)}, "want at most 255 bytes"},
		"every tenant":   {authz.AllTenants, &brokerv1.CreateAPIKeyRequest{Role: 3}, "want the one tenant"},
		"unknown tenant": {"nobody", &brokerv1.CreateAPIKeyRequest{Role: 3}, "want a tenant that there is"},
	} {
		_, _, err := d.CreateAPIKey(as(t.Context(), tc.tenant), tc.req)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
	}
	_, _, err := d.CreateAPIKey(t.Context(), &brokerv1.CreateAPIKeyRequest{Role: 3})
	refused(t, err, invalid, "nobody")
}

func BenchmarkBearer(b *testing.B) {
	s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	d := NewDirectory(s, nil, nil)
	defer d.Close()
	_, secret, err := d.CreateAPIKey(as(b.Context(), "default"), &brokerv1.CreateAPIKeyRequest{Role: brokerv1.Role_ROLE_USER})
	if err != nil {
		b.Fatal(err)
	}
	auth, err := NewAuthenticator(d, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := auth.Bearer(b.Context(), "Bearer "+secret)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := authz.Admit(p, "/sandbar.broker.v1.SandboxService/GetSandbox", ""); err != nil {
			b.Fatal(err)
		}
	}
}
