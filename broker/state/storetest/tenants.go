package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// tenants are there by name, the default one from the beginning.
func tenants(t *testing.T, s state.Store) {
	first, err := s.Tenant(t.Context(), "default")
	check(t, err)
	if first.GetName() != "default" {
		t.Errorf("the first tenant is %v", first)
	}
	in := &brokerv1.Tenant{Name: "acme", Description: "d", CreatedAt: timestamppb.New(start)}
	check(t, s.InsertTenant(t.Context(), in))
	want(t, s.InsertTenant(t.Context(), in), state.ErrNameTaken)
	got, err := s.Tenant(t.Context(), "acme")
	check(t, err)
	if diff := cmp.Diff(in, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, err = s.Tenant(t.Context(), "nobody")
	want(t, err, state.ErrNotFound)
	var names []string
	for token := ""; ; {
		page, next, err := s.ListTenants(t.Context(), state.Page{Size: 1, Token: token})
		check(t, err)
		for _, tenant := range page {
			names = append(names, tenant.GetName())
		}
		if token = next; token == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"acme", "default"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_, _, err = s.ListTenants(t.Context(), state.Page{Size: 1, Token: "x"})
	want(t, err, state.ErrBadToken)
	check(t, s.RemoveTenant(t.Context(), "acme"))
	want(t, s.RemoveTenant(t.Context(), "acme"), state.ErrNotFound)
}

// of makes an object another tenant's.
func of(tenant string) func(*state.Sandbox) {
	return func(sb *state.Sandbox) { sb.Body.Tenant = tenant }
}

// tenantObjects: names, idempotency keys and listings are each tenant's own.
func tenantObjects(t *testing.T, s state.Store) {
	check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
	named := func(sb *state.Sandbox) {
		sb.Body.Name, sb.Body.Labels, sb.RequestKey = "n", map[string]string{"l": "x"}, "k"
	}
	for i, tenant := range []string{"default", "acme"} {
		req := &state.Request{Tenant: tenant, Key: "k", Digest: []byte(tenant), IDs: []string{tenant}, At: start}
		check(t, s.InsertSandboxes(t.Context(), req, sandbox(i, named, of(tenant))))
		want(t, s.InsertSandboxes(t.Context(), nil, sandbox(i+10, named, of(tenant))), state.ErrNameTaken)
		want(t, s.InsertSandboxes(t.Context(), req, sandbox(i+10, of(tenant))), state.ErrKeyTaken)
		sn := &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: fmt.Sprintf("snp_%d", i), Tenant: tenant, Name: "s"}}
		check(t, s.InsertSnapshot(t.Context(), nil, sn))
	}
	for i, tenant := range []string{"default", "acme"} {
		got, err := s.SandboxNamed(t.Context(), tenant, "n")
		check(t, err)
		if got.Tenant() != tenant || got.ID() != fmt.Sprintf("sbx_%03d", i) {
			t.Errorf("%s's is %s of %s", tenant, got.ID(), got.Tenant())
		}
		req, err := s.Request(t.Context(), tenant, "k")
		check(t, err)
		if req.IDs[0] != tenant || req.Tenant != tenant {
			t.Errorf("%s's request is %+v", tenant, req)
		}
		for _, f := range []state.Filter{{Tenant: tenant}, {Tenant: tenant, Labels: map[string]string{"l": "x"}}, {Tenant: tenant, Providers: []string{"p", "z"}}} {
			if diff := cmp.Diff([]int{i}, walk(t, s, f, 1)); diff != "" {
				t.Errorf("%s, %+v: -want +got:\n%s", tenant, f, diff)
			}
		}
		if got := walk(t, s, state.Filter{Tenant: tenant, Providers: []string{"z"}}, 1); got != nil {
			t.Errorf("at another provider there are %v", got)
		}
		sn, err := s.SnapshotNamed(t.Context(), tenant, "s")
		check(t, err)
		list, _, err := s.ListSnapshots(t.Context(), state.SnapshotFilter{Tenant: tenant}, state.Page{Size: 9})
		check(t, err)
		if sn.Tenant() != tenant || len(list) != 1 || list[0].ID() != sn.ID() {
			t.Errorf("%s's snapshots are %v and %v", tenant, sn, list)
		}
	}
	// A token is of one tenant's listing.
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(20, of("acme"))))
	_, token, err := s.ListSandboxes(t.Context(), state.Filter{Tenant: "acme"}, state.Page{Size: 1})
	check(t, err)
	_, _, err = s.ListSandboxes(t.Context(), state.Filter{Tenant: "default"}, state.Page{Size: 1, Token: token})
	want(t, err, state.ErrBadToken)
	// What one drops is not the other's.
	remove(t, s, "sbx_000")
	_, err = s.Request(t.Context(), "default", "k")
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "acme", "k")
	check(t, err)
	want(t, s.InsertSandboxes(t.Context(), nil, sandbox(30, of("nobody"))), state.ErrNoTenant)
	want(t, s.InsertSnapshot(t.Context(), nil, &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_9", Tenant: ""}}), state.ErrNoTenant)
}

// tenantRemoved: a tenant goes with all it had, but not with what it has; and of
// an insertion and a removal at the same time one fails.
func tenantRemoved(t *testing.T, s state.Store) {
	acme := &brokerv1.Tenant{Name: "acme"}
	check(t, s.InsertTenant(t.Context(), acme))
	sb := sandbox(1, of("acme"), func(sb *state.Sandbox) { sb.RequestKey = "k" })
	check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "acme", Key: "k", At: start}, sb))
	check(t, s.InsertKey(t.Context(), &state.Key{Body: &brokerv1.APIKey{KeyId: "sbk_1", Tenant: "acme"}, Hash: []byte{1}}))
	want(t, s.RemoveTenant(t.Context(), "acme"), state.ErrTenantInUse)
	sb.Status.Gone, sb.GoneAt = true, start
	check(t, s.UpdateSandbox(t.Context(), sb))
	sn := &state.Snapshot{Body: &brokerv1.Snapshot{SnapshotId: "snp_1", Tenant: "acme"}}
	check(t, s.InsertSnapshot(t.Context(), nil, sn))
	want(t, s.RemoveTenant(t.Context(), "acme"), state.ErrTenantInUse)
	check(t, s.RemoveSnapshot(t.Context(), sn.ID()))
	check(t, s.RemoveTenant(t.Context(), "acme"))
	_, err := s.Sandbox(t.Context(), sb.ID())
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "acme", "k")
	want(t, err, state.ErrNotFound)
	_, err = s.Key(t.Context(), "sbk_1")
	want(t, err, state.ErrNotFound)

	const rounds = 20
	for round := range rounds {
		check(t, s.InsertTenant(t.Context(), acme))
		row := sandbox(100+round, of("acme"))
		errs := together(2, func(i int) error {
			if i == 0 {
				return s.RemoveTenant(t.Context(), "acme")
			}
			return s.InsertSandboxes(t.Context(), nil, row)
		})
		switch removed, inserted := errs[0], errs[1]; {
		case removed == nil && errors.Is(inserted, state.ErrNoTenant):
		case inserted == nil && errors.Is(removed, state.ErrTenantInUse):
			remove(t, s, row.ID())
			check(t, s.RemoveTenant(t.Context(), "acme"))
		default:
			t.Fatalf("round %d: removing said %v, inserting %v", round, removed, inserted)
		}
	}
}

func keys(t *testing.T, s state.Store) {
	check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
	in := &state.Key{
		Body: &brokerv1.APIKey{KeyId: "sbk_1", Tenant: "acme", Role: brokerv1.Role_ROLE_USER, Scope: &brokerv1.Scope{Permissions: []string{"exec"}}},
		Hash: []byte{1, 2, 3},
	}
	check(t, s.InsertKey(t.Context(), in))
	check(t, s.InsertKey(t.Context(), &state.Key{Body: &brokerv1.APIKey{KeyId: "sbk_2", Tenant: "default"}, Hash: []byte{4}}))
	want(t, s.InsertKey(t.Context(), &state.Key{Body: &brokerv1.APIKey{KeyId: "sbk_3", Tenant: "nobody"}}), state.ErrNoTenant)
	same := func() {
		t.Helper()
		got, err := s.Key(t.Context(), "sbk_1")
		check(t, err)
		if diff := cmp.Diff(in, got, protocmp.Transform()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	same()
	in.Body.RevokedAt, in.Body.RevokedBy = timestamppb.New(start), "uid:0"
	check(t, s.UpdateKey(t.Context(), in.Body))
	same()
	want(t, s.UpdateKey(t.Context(), &brokerv1.APIKey{KeyId: "sbk_9"}), state.ErrNotFound)
	_, err := s.Key(t.Context(), "sbk_9")
	want(t, err, state.ErrNotFound)
	for tenant, expect := range map[string][]string{"acme": {"sbk_1"}, "default": {"sbk_2"}, "": {"sbk_2", "sbk_1"}, "nobody": nil} {
		var ids []string
		for token := ""; ; {
			page, next, err := s.ListKeys(t.Context(), tenant, state.Page{Size: 1, Token: token})
			check(t, err)
			for _, k := range page {
				ids = append(ids, k.ID())
			}
			if token = next; token == "" {
				break
			}
		}
		if diff := cmp.Diff(expect, ids); diff != "" {
			t.Errorf("keys of %q: -want +got:\n%s", tenant, diff)
		}
	}
}
