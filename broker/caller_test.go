package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/authz"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// by is a context of a call of the default tenant's user with a scope.
func by(t *testing.T, scope ...string) context.Context {
	t.Helper()
	s, err := authz.ParseScope(scope)
	check(t, err)
	return authz.With(t.Context(), authz.Principal{
		Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY, ID: "sbk_1", Tenant: "default", Acting: "default",
		Role: brokerv1.Role_ROLE_USER, Scope: s,
	})
}

// TestNobodysCalls: a front door that does not say who calls is shut.
func TestNobodysCalls(t *testing.T) {
	m := newMarket(t, "p")
	m.Close(t.Context())
	s, err := broker.New(t.Context(), m.store, m.fleet, broker.Options{})
	check(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	for name, call := range map[string]func() error{
		"create": func() error { _, err := s.CreateSandbox(t.Context(), &brokerv1.CreateSandboxRequest{}); return err },
		"plan":   func() error { _, err := s.PlanSandbox(t.Context(), &brokerv1.CreateSandboxRequest{}); return err },
		"get": func() error {
			_, err := s.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: "sbx_1"})
			return err
		},
		"list":   func() error { _, err := s.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{}); return err },
		"delete": func() error { _, err := s.DeleteSandbox(t.Context(), "n"); return err },
		"usage": func() error {
			_, err := s.GetUsage(t.Context(), &providerv1.GetUsageRequest{Sandbox: &providerv1.SandboxRef{SandboxId: "n"}})
			return err
		},
		"snapshots": func() error { _, err := s.ListSnapshots(t.Context(), &brokerv1.ListSnapshotsRequest{}); return err },
		"restore": func() error {
			_, err := s.RestoreSnapshot(t.Context(), &brokerv1.RestoreSnapshotRequest{Snapshot: "n"})
			return err
		},
		"events": func() error {
			return s.WatchEvents(t.Context(), &brokerv1.WatchEventsRequest{UntilNow: true}, &reading{})
		},
		"volumes": func() error { _, err := s.ListVolumes(t.Context(), ""); return err },
		"volume": func() error {
			_, err := s.CreateVolume(t.Context(), &brokerv1.CreateVolumeRequest{Name: "v"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID) })
	}
}

// TestKeptToProviders: a scope of providers is where the holder's sandboxes are
// put, and all that the holder sees.
func TestKeptToProviders(t *testing.T) {
	m := newMarket(t, "best", "second", "third")
	if sb := m.at("best"); sb.GetTenant() != "default" {
		t.Errorf("it is %q's", sb.GetTenant())
	}
	kept := by(t, "provider=second", "provider=third")
	for range 3 {
		sb, err := m.CreateSandbox(kept, &brokerv1.CreateSandboxRequest{})
		check(t, err)
		if sb.GetProvider() == "best" {
			t.Errorf("it is at %s", sb.GetProvider())
		}
	}
	one, err := m.CreateSandbox(by(t, "provider=third"), &brokerv1.CreateSandboxRequest{})
	check(t, err)
	place, err := m.ExplainSandbox(by(t, "provider=third"), one.GetSandboxId())
	check(t, err)
	if place.GetProvider() != "third" || !strings.Contains(place.GetNote(), "the only provider in the scope of the key sbk_1") {
		t.Errorf("it is explained as %v", place)
	}
	_, err = m.CreateSandbox(kept, &brokerv1.CreateSandboxRequest{Provider: "best"})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT)
	if f.Metadata["provider"] != "best" {
		t.Errorf("the refusal says %v", f.Metadata)
	}
	list, err := m.ListSandboxes(kept, &brokerv1.ListSandboxesRequest{})
	check(t, err)
	if len(list.GetSandboxes()) != 4 || slices.ContainsFunc(list.GetSandboxes(), func(sb *brokerv1.Sandbox) bool { return sb.GetProvider() == "best" }) {
		t.Errorf("it lists %v", list.GetSandboxes())
	}
	all, err := m.ListSandboxes(t.Context(), &brokerv1.ListSandboxesRequest{})
	check(t, err)
	if len(all.GetSandboxes()) != 5 {
		t.Errorf("all are %v", all.GetSandboxes())
	}
}

// TestReplayInAnotherScope: an idempotency key does not lead out of a scope.
func TestReplayInAnotherScope(t *testing.T) {
	m := newMarket(t, "best", "second")
	req := &brokerv1.CreateSandboxRequest{IdempotencyKey: "k"}
	first, err := m.CreateSandbox(by(t, "provider=best"), req)
	check(t, err)
	_, err = m.CreateSandbox(by(t, "provider=second"), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	again, err := m.CreateSandbox(by(t), req)
	check(t, err)
	if again.GetSandboxId() != first.GetSandboxId() {
		t.Error("the same call again made another sandbox")
	}
}
