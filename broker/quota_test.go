package broker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const overQuota = providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED

// TestQuotas: what a tenant may not have is refused before any provider is asked,
// and counts what is made in every way.
func TestQuotas(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": {Weight: 1000, Assumed: price.Amounts{CPUMillis: 500}}}, "a", "b")
	m.tenant("acme", &brokerv1.Limits{MaxSandboxes: 4, MaxCpuMillis: 2500})
	ctx := as(t, "acme")
	first := m.createFor("acme", &brokerv1.CreateSandboxRequest{}) // half a CPU, says the configuration
	if first.GetRate().GetCpuMillis() != 500 || first.GetRate().GetPrice() != nil {
		t.Errorf("its rate is %v", first.GetRate())
	}
	_, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: first.GetSandboxId(), Count: 4})
	f := want(t, err, overQuota)
	if diff := cmp.Diff(map[string]string{"limit": "max_sandboxes", "use": "1", "max": "4", "asked": "4"}, pick(f, "limit", "use", "max", "asked")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := m.vendors["a"].Calls("ForkSandbox"); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	copies, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: first.GetSandboxId(), Count: 2})
	check(t, err)
	snapshot, err := m.CreateSnapshot(ctx, &brokerv1.CreateSnapshotRequest{Sandbox: first.GetSandboxId()})
	check(t, err)
	restored, err := m.RestoreSnapshot(ctx, &brokerv1.RestoreSnapshotRequest{Snapshot: snapshot.GetSnapshotId()})
	check(t, err)
	for what, ask := range map[string]func() error{
		"create": func() error { _, err := m.CreateSandbox(ctx, sized(1)); return err },
		"restore": func() error {
			_, err := m.RestoreSnapshot(ctx, &brokerv1.RestoreSnapshotRequest{Snapshot: snapshot.GetSnapshotId()})
			return err
		},
		"fork": func() error {
			_, err := m.ForkSandbox(ctx, &brokerv1.ForkSandboxRequest{Sandbox: copies[0].GetSandboxId(), Count: 1})
			return err
		},
	} {
		if f := want(t, ask(), overQuota); f.Metadata["limit"] != "max_sandboxes" {
			t.Errorf("%s: %v", what, f)
		}
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != 0 {
		t.Errorf("another provider was asked %d times", n)
	}
	// One that is paused gives its CPUs to others, and has to get them back.
	_, err = m.PauseSandbox(ctx, &brokerv1.PauseSandboxRequest{Sandbox: restored.GetSandboxId()})
	check(t, err)
	_, err = m.DeleteSandbox(ctx, first.GetSandboxId())
	check(t, err)
	m.createFor("acme", sized(1500))
	_, err = m.ResumeSandbox(ctx, restored.GetSandboxId())
	if f := want(t, err, overQuota); f.Metadata["limit"] != "max_cpu_millis" {
		t.Errorf("resume: %v", f)
	}
	_, err = m.DeleteSandbox(ctx, copies[0].GetSandboxId())
	check(t, err)
	_, err = m.ResumeSandbox(ctx, restored.GetSandboxId())
	check(t, err)
}

func pick(f *fault.Error, keys ...string) map[string]string {
	out := make(map[string]string, len(keys))
	for _, k := range keys {
		out[k] = f.Metadata[k]
	}
	return out
}

// TestPace: whoever comes too soon is told when to come again; the tries of one
// request are one, and so is its repetition.
func TestPace(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.tenant("acme", &brokerv1.Limits{MaxCreatesPerMinute: 2})
	m.fails("a", false, full)
	keyed := &brokerv1.CreateSandboxRequest{IdempotencyKey: "k"}
	if sb := m.createFor("acme", keyed); sb.GetProvider() != "b" {
		t.Errorf("it is at %s", sb.GetProvider())
	}
	m.createFor("acme", &brokerv1.CreateSandboxRequest{})
	m.createFor("acme", keyed)
	calls := m.vendors["b"].Calls("CreateSandbox")
	m.clock.add(10 * time.Second)
	_, err := m.CreateSandbox(as(t, "acme"), &brokerv1.CreateSandboxRequest{})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	if f.RetryAfter != 20*time.Second || f.Metadata["tenant"] != "acme" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("the refusal is %+v", f)
	}
	if n := m.vendors["b"].Calls("CreateSandbox"); n != calls {
		t.Errorf("the provider was asked %d times", n-calls)
	}
	m.clock.add(20 * time.Second)
	m.createFor("acme", &brokerv1.CreateSandboxRequest{})
}

// TestMaxPrice: a provider that is too dear, or of which nobody knows, is ruled
// out, unless that is allowed.
func TestMaxPrice(t *testing.T) {
	m := newMarketWith(t, map[string]placement.Policy{"a": dear}, "a", "b")
	req := sized(500)
	req.MaxPrice = &brokerv1.MaxPrice{Currency: "USD", NanosPerHour: 499_999_999}
	_, err := m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	req.MaxPrice.AllowUnknown = true
	if sb := m.create(req); sb.GetProvider() != "b" {
		t.Errorf("it is at %s", sb.GetProvider())
	}
	req.MaxPrice.NanosPerHour, req.MaxPrice.AllowUnknown = 500_000_000, false
	sb := m.create(req)
	if sb.GetProvider() != "a" || sb.GetRate().GetPrice().GetRunningNanosPerHour() != 500_000_000 {
		t.Errorf("it is at %s for %v", sb.GetProvider(), sb.GetRate())
	}
	place, err := m.ExplainSandbox(t.Context(), sb.GetSandboxId())
	check(t, err)
	if got := place.GetCandidates()[0].GetPrice().GetRunningNanosPerHour(); got != 500_000_000 {
		t.Errorf("the explanation has the price %d", got)
	}
	req.MaxPrice.NanosPerHour = 0
	_, err = m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	req.MaxPrice = &brokerv1.MaxPrice{Currency: "usd", NanosPerHour: 1}
	_, err = m.CreateSandbox(t.Context(), req)
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
}
