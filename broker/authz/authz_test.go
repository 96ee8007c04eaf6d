package authz_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	admin    = brokerv1.Role_ROLE_ADMIN
	operator = brokerv1.Role_ROLE_OPERATOR
	user     = brokerv1.Role_ROLE_USER
	auditor  = brokerv1.Role_ROLE_AUDITOR
)

// TestEveryCallHasAPermission fails for a call that was added without deciding who
// may make it. Who may, a test of package server shows against a real one.
func TestEveryCallHasAPermission(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		brokerv1.File_sandbar_broker_v1_broker_proto, brokerv1.File_sandbar_broker_v1_access_proto, brokerv1.File_sandbar_broker_v1_webhook_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				call, ok := authz.Lookup("/" + string(service.FullName()) + "/" + string(m.Name()))
				if !ok || call.Permission == "" || call.Streams != (m.IsStreamingClient() || m.IsStreamingServer()) {
					t.Errorf("%s: %+v, %t: want its permission in the table", m.FullName(), call, ok)
				}
			}
		}
	}
	for _, path := range []string{"", "/", "/x.Y/Z", "sandbar.broker.v1.SandboxService/GetSandbox", "/sandbar.broker.v1.SandboxService/GetSandbox/"} {
		p := authz.Local("0")
		if _, err := authz.Admit(p, path, ""); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED) {
			t.Errorf("%q is let in: %v", path, err)
		}
	}
}

const getSandbox = "/sandbar.broker.v1.SandboxService/GetSandbox"

func TestOnlyAdminsActForOthers(t *testing.T) {
	for role, want := range map[brokerv1.Role]bool{admin: true, operator: false, user: false, auditor: false} {
		p := authz.Principal{Tenant: "acme", Role: role}
		for _, tenant := range []string{"other", "default", authz.AllTenants} {
			got, err := authz.Admit(p, getSandbox, tenant)
			if (err == nil) != want || err == nil && got.Acting != tenant {
				t.Errorf("%v for %s: acting for %q, %v", role, tenant, got.Acting, err)
			}
			if err != nil && !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT) {
				t.Errorf("%v for %s: %v", role, tenant, err)
			}
		}
		for _, tenant := range []string{"", "acme"} {
			if got, err := authz.Admit(p, getSandbox, tenant); err != nil || got.Acting != "acme" {
				t.Errorf("%v for its own: acting for %q, %v", role, got.Acting, err)
			}
		}
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	for _, tc := range []struct {
		p         authz.Principal
		procedure string
		says      string
	}{
		{authz.Principal{Role: auditor, ID: "sbk_1", Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY}, "/sandbar.broker.v1.SandboxService/StartExec", "StartExec takes the permission exec, which its role auditor has not: the key sbk_1"},
		{authz.Principal{Role: user, ID: "bob", Kind: brokerv1.CallerKind_CALLER_KIND_OIDC, Scope: &brokerv1.Scope{Permissions: []string{"exec"}}}, getSandbox, "which its scope leaves out: the token of bob"},
	} {
		_, err := authz.Admit(tc.p, tc.procedure, "")
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v; want %q", err, tc.says)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		words []string
		want  *brokerv1.Scope
		says  string
	}{
		{nil, nil, ""},
		{[]string{"exec", "sandbox:read", "exec"}, &brokerv1.Scope{Permissions: []string{"exec", "sandbox:read"}}, ""},
		{[]string{"file"}, &brokerv1.Scope{Permissions: []string{"file:read", "file:write"}}, ""},
		{[]string{"provider=b", "provider=a", "label:team=x=y"}, &brokerv1.Scope{Providers: []string{"a", "b"}, Labels: map[string]string{"team": "x=y"}}, ""},
		{[]string{"any"}, nil, `"any" is not a permission`},
		{[]string{"Exec"}, nil, `want one of activity, cost, exec, file, host, key, port, provider, sandbox, server, tenant, volume`},
		{[]string{"provider="}, nil, `"" is not the name of a provider`},
		{[]string{"label:team"}, nil, `want label:NAME=VALUE`},
		{[]string{"label:=x"}, nil, `cannot be`},
		{[]string{"label:a=1", "label:a=2"}, nil, `label a is "1" and "2"`},
	} {
		got, err := authz.ParseScope(tc.words)
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q: %v, want %q", tc.words, err, tc.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.words, err)
		}
		if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%q: -want +got:\n%s", tc.words, diff)
		}
		again, err := authz.ParseScope(authz.ScopeWords(got))
		if diff := cmp.Diff(got, again, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("%q does not survive being written, %v: %s", tc.words, err, diff)
		}
	}
}

func TestWhatIsSeen(t *testing.T) {
	team := map[string]string{"team": "a", "more": "b"}
	for _, tc := range []struct {
		name     string
		p        authz.Principal
		tenant   string
		provider string
		labels   map[string]string
		want     bool
	}{
		{"own", authz.Principal{Acting: "a"}, "a", "p", nil, true},
		{"other's", authz.Principal{Acting: "a"}, "b", "p", nil, false},
		{"all", authz.Principal{Acting: authz.AllTenants}, "b", "p", nil, true},
		{"nobody's", authz.Principal{}, "a", "p", nil, false},
		{"provider", authz.Principal{Acting: "a", Scope: &brokerv1.Scope{Providers: []string{"p"}}}, "a", "p", nil, true},
		{"other provider", authz.Principal{Acting: "a", Scope: &brokerv1.Scope{Providers: []string{"q"}}}, "a", "p", nil, false},
		{"label", authz.Principal{Acting: "a", Scope: &brokerv1.Scope{Labels: map[string]string{"team": "a"}}}, "a", "p", team, true},
		{"other label", authz.Principal{Acting: "a", Scope: &brokerv1.Scope{Labels: map[string]string{"team": "b"}}}, "a", "p", team, false},
		{"empty label is not none", authz.Principal{Acting: "a", Scope: &brokerv1.Scope{Labels: map[string]string{"x": ""}}}, "a", "p", team, false},
	} {
		if got := tc.p.Sees(tc.tenant, tc.provider, tc.labels); got != tc.want {
			t.Errorf("%s: seen %t", tc.name, got)
		}
	}
}

func TestWhoIsKeptToAPartAdministersNothing(t *testing.T) {
	for _, scope := range []*brokerv1.Scope{{Providers: []string{"p"}}, {Labels: map[string]string{"a": "b"}}} {
		p := authz.Principal{Role: admin, Scope: scope}
		for _, perm := range []authz.Permission{authz.KeyRead, authz.KeyWrite, authz.TenantWrite, authz.ProviderWrite, authz.ServerWrite, authz.HostMount} {
			if p.May(perm) {
				t.Errorf("%v has %s", scope, perm)
			}
		}
		if !p.May(authz.Exec) || p.Covers(auditor, nil) {
			t.Errorf("%v may not exec, or may make keys", scope)
		}
	}
}

func drawPrincipal(rt *rapid.T, name string) authz.Principal {
	p := authz.Principal{Role: rapid.SampledFrom([]brokerv1.Role{admin, operator, user, auditor}).Draw(rt, name+" role")}
	words := rapid.SliceOfN(rapid.SampledFrom([]string{"exec", "sandbox", "key", "file:read", "host", "tenant", "provider=p", "label:a=b"}), 0, 4).Draw(rt, name+" scope")
	scope, err := authz.ParseScope(words)
	if err != nil {
		rt.Fatal(err)
	}
	p.Scope = scope
	return p
}

// TestNobodyHandsOutMoreThanTheyHave: what a role and a scope that are covered may,
// whoever covers them may too.
func TestNobodyHandsOutMoreThanTheyHave(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		giver, taker := drawPrincipal(rt, "giver"), drawPrincipal(rt, "taker")
		if !giver.Covers(taker.Role, taker.Scope) {
			return
		}
		if taker.Role == admin && giver.Role != admin {
			rt.Fatalf("%v makes an admin", giver)
		}
		for _, perm := range taker.Permissions() {
			if !slices.Contains(giver.Permissions(), perm) {
				rt.Fatalf("%v gives %s", giver, perm)
			}
		}
	})
}

// TestAScopeOnlyNarrows: with a scope there is never more than without.
func TestAScopeOnlyNarrows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPrincipal(rt, "p")
		whole := authz.Principal{Role: p.Role}
		for _, perm := range p.Permissions() {
			if !slices.Contains(whole.Permissions(), perm) {
				rt.Fatalf("the scope %v adds %s", p.Scope, perm)
			}
		}
		out, err := p.Labelled(map[string]string{"c": "d"})
		if err != nil || !(authz.Principal{Acting: "t", Scope: &brokerv1.Scope{Labels: p.Scope.GetLabels()}}).Sees("t", "p", out) {
			rt.Fatalf("who makes something does not see it: %v, %v", out, err)
		}
	})
}
