package broker_test

import (
	"context"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestDeleteWhileAnotherLives(t *testing.T) {
	b := newBench(t, broker.Options{})
	create := func(name string) string {
		return b.create(t, &brokerv1.CreateSandboxRequest{Name: name}).GetSandboxId()
	}
	first, second := create("first"), create("second")

	_, err := b.DeleteSandboxWhile(t.Context(), first, "first")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	_, err = b.DeleteSandboxWhile(t.Context(), first, "nobody")
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND); f.Metadata["survivor"] != "nobody" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("a survivor that nobody knows: %+v", f)
	}
	// The provider is asked: what is stored may be old.
	dead := create("dead")
	b.vendor.Kill(dead)
	_, err = b.DeleteSandboxWhile(t.Context(), first, dead)
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING); f.Metadata["state"] != "FAILED" {
		t.Errorf("a dead survivor: %+v", f)
	}
	b.vendor.SetHook(failing("GetSandbox"))
	if _, err := b.DeleteSandboxWhile(t.Context(), first, second); err == nil {
		t.Error("deleted while nobody could say whether the survivor lives")
	}
	b.vendor.SetHook(nil)
	b.refresh(t, first, running)

	_, err = b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: second})
	check(t, err)
	for _, absent := range []bool{false, true} {
		got, err := b.DeleteSandboxWhile(t.Context(), first, second)
		check(t, err)
		if got != absent {
			t.Errorf("delete says already_absent=%v, want %v", got, absent)
		}
	}
	if b.vendor.Sandboxes()[first] != nil || b.vendor.Sandboxes()[second] == nil {
		t.Errorf("the vendor has %v, want the second", b.vendor.Sandboxes())
	}
}

// TestNeitherOfTwoSurvivorsIsLost: of two sandboxes that are each to be deleted while
// the other lives, exactly one stays, also if the provider does not do it at once.
func TestNeitherOfTwoSurvivorsIsLost(t *testing.T) {
	b := newBench(t, broker.Options{})
	for range 10 {
		first := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
		second := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
		var wg sync.WaitGroup
		errs := [2]error{}
		for i, pair := range [][2]string{{first, second}, {second, first}} {
			wg.Go(func() { _, errs[i] = b.DeleteSandboxWhile(t.Context(), pair[0], pair[1]) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("both ended the same: %v, %v", errs[0], errs[1])
		}
		if live := b.vendor.Sandboxes(); (live[first] == nil) == (live[second] == nil) {
			t.Fatalf("the vendor has %v, want one of %s and %s", live, first, second)
		}
	}
	first := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
	second := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
	b.vendor.SetHook(failing("DeleteSandbox"))
	if _, err := b.DeleteSandboxWhile(t.Context(), first, second); err == nil {
		t.Fatal("the provider cannot delete, and nobody says so")
	}
	// The wish is stored, and carried out later.
	if _, err := b.DeleteSandboxWhile(t.Context(), second, first); err == nil {
		t.Fatal("deleted the survivor of a sandbox whose end is decided")
	}
	b.vendor.SetHook(nil)
	b.await(t, "the end of the first", func(m map[string]*providerv1.Sandbox) bool { return m[first] == nil && m[second] != nil })
}

// failing returns a hook that fails a method each time, before it happens.
func failing(method string) testvendor.Hook {
	return func(_ context.Context, m string, after bool) error {
		if m == method && !after {
			return cut
		}
		return nil
	}
}
