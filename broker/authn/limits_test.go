package authn

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestUpdateTenant: what the mask names is taken over, be it there or not, and the
// rest stays.
func TestUpdateTenant(t *testing.T) {
	s := newStore(t)
	d := openDirectory(t, s, soon)
	ctx := as(t.Context(), "default")
	_, err := d.CreateTenant(ctx, &brokerv1.CreateTenantRequest{Name: "acme", Description: "d"})
	check(t, err)
	full := &brokerv1.Limits{
		MaxSandboxes: 5, MaxCpuMillis: 1000, Daily: &brokerv1.Budget{MoneyMicros: 1, Currency: "USD", CpuSeconds: 7}, WhenSpent: brokerv1.WhenSpent_WHEN_SPENT_PAUSE,
	}
	for _, step := range []struct {
		name   string
		limits *brokerv1.Limits
		mask   []string
		want   *brokerv1.Limits
	}{
		{"one", full, []string{"limits.max_sandboxes"}, &brokerv1.Limits{MaxSandboxes: 5}},
		{"deep", full, []string{"limits.daily.cpu_seconds"}, &brokerv1.Limits{MaxSandboxes: 5, Daily: &brokerv1.Budget{CpuSeconds: 7}}},
		{"all", full, []string{"limits"}, full},
		{"one away", nil, []string{"limits.max_cpu_millis", "limits.when_spent"}, &brokerv1.Limits{MaxSandboxes: 5, Daily: full.GetDaily()}},
		{"money away", nil, []string{"limits.daily.money_micros"}, &brokerv1.Limits{MaxSandboxes: 5, Daily: &brokerv1.Budget{CpuSeconds: 7}}},
		{"a budget away", nil, []string{"limits.daily.cpu_seconds"}, &brokerv1.Limits{MaxSandboxes: 5}},
		{"the last away", nil, []string{"limits.max_sandboxes"}, nil},
	} {
		got, err := d.UpdateTenant(ctx, &brokerv1.UpdateTenantRequest{Name: "acme", Limits: step.limits, UpdateMask: &fieldmaskpb.FieldMask{Paths: step.mask}})
		check(t, err)
		if diff := cmp.Diff(step.want, got.GetLimits(), protocmp.Transform()); diff != "" || got.GetDescription() != "d" || got.GetName() != "acme" {
			t.Errorf("%s: %v; -want +got:\n%s", step.name, got, diff)
		}
		stored, err := s.Store.Tenant(ctx, "acme")
		check(t, err)
		if diff := cmp.Diff(got, stored, protocmp.Transform()); diff != "" {
			t.Errorf("%s: stored: -want +got:\n%s", step.name, diff)
		}
	}
	update := func(ctx context.Context, name string, l *brokerv1.Limits, mask ...string) error {
		_, err := d.UpdateTenant(ctx, &brokerv1.UpdateTenantRequest{Name: name, Limits: l, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}})
		return err
	}
	const field = providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID
	refused(t, update(ctx, "acme", full), field, "update_mask")
	for _, path := range []string{"name", "created_at", "limits.", "limits.most", "limits.daily.most", "limits.max_sandboxes.more", "limits2"} {
		refused(t, update(ctx, "acme", full, path), field, `update_mask is "`+path+`": want description, or a field of limits`)
	}
	refused(t, update(ctx, "acme", &brokerv1.Limits{MaxSandboxes: -1}, "limits.max_sandboxes"), field, "limits.max_sandboxes")
	refused(t, update(ctx, "acme", &brokerv1.Limits{Monthly: &brokerv1.Budget{MoneyMicros: 1}}, "limits.monthly.money_micros"), field, "limits.monthly.currency")
	refused(t, update(ctx, "nobody", full, "limits"), field, "want a tenant that there is")
	refused(t, update(t.Context(), "acme", full, "limits"), invalid, "nobody's")
	if got, err := s.Store.Tenant(ctx, "acme"); err != nil || got.GetLimits() != nil {
		t.Errorf("after the refusals it is %v, %v", got, err)
	}
}
