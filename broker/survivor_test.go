package broker_test

import (
	"context"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (b *bench) deleteWhile(t *testing.T, sandbox, survivor, name string) (bool, error) {
	t.Helper()
	return b.DeleteSandboxWhile(t.Context(), &brokerv1.DeleteSandboxRequest{Sandbox: sandbox, Survivor: survivor, SurvivorName: name})
}

func TestDeleteWhileAnotherLives(t *testing.T) {
	b := newBench(t, broker.Options{})
	create := func(name string) string {
		return b.create(t, &brokerv1.CreateSandboxRequest{Name: name}).GetSandboxId()
	}
	first, second := create("first"), create("second")

	_, err := b.deleteWhile(t, first, "first", "")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	_, err = b.deleteWhile(t, first, "nobody", "")
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND); f.Metadata["survivor"] != "nobody" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("a survivor that nobody knows: %+v", f)
	}
	// The provider is asked: what is stored may be old.
	dead := create("dead")
	b.vendor.Kill(dead)
	_, err = b.deleteWhile(t, first, dead, "")
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING); f.Metadata["state"] != "FAILED" {
		t.Errorf("a dead survivor: %+v", f)
	}
	b.vendor.SetHook(failing("GetSandbox"))
	if _, err := b.deleteWhile(t, first, second, ""); err == nil {
		t.Error("deleted while nobody could say whether the survivor lives")
	}
	b.vendor.SetHook(nil)
	b.refresh(t, first, running)

	_, err = b.PauseSandbox(t.Context(), &brokerv1.PauseSandboxRequest{Sandbox: second})
	check(t, err)
	for _, absent := range []bool{false, true} {
		got, err := b.deleteWhile(t, first, second, "")
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
			wg.Go(func() { _, errs[i] = b.deleteWhile(t, pair[0], pair[1], "") })
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
	if _, err := b.deleteWhile(t, first, second, ""); err == nil {
		t.Fatal("the provider cannot delete, and nobody says so")
	}
	// The wish is stored, and carried out later.
	if _, err := b.deleteWhile(t, second, first, ""); err == nil {
		t.Fatal("deleted the survivor of a sandbox whose end is decided")
	}
	b.vendor.SetHook(nil)
	b.await(t, "the end of the first", func(m map[string]*providerv1.Sandbox) bool { return m[first] == nil && m[second] != nil })
}

// named checks which sandbox a name means; none, if id is empty.
func (b *bench) named(t *testing.T, name, id string) {
	t.Helper()
	sb, err := b.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: name})
	if id == "" {
		want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
		return
	}
	check(t, err)
	if sb.GetSandboxId() != id || sb.GetName() != name {
		t.Errorf("%s is %s, called %q; want %s", name, sb.GetSandboxId(), sb.GetName(), id)
	}
}

// TestSurvivorTakesTheName: whatever happens, a name that is handed over means one of
// the two, and once it is decided that one ends, the other.
func TestSurvivorTakesTheName(t *testing.T) {
	b := newBench(t, broker.Options{})
	create := func(name string) string {
		return b.create(t, &brokerv1.CreateSandboxRequest{Name: name}).GetSandboxId()
	}
	web, spare, other := create("web"), create("spare"), create("other")

	_, err := b.deleteWhile(t, web, spare, "No Name")
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID); f.Metadata[fault.MetaField] != "survivor_name" {
		t.Errorf("a bad name: %+v", f)
	}
	_, err = b.deleteWhile(t, web, "", "web")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	// A third one's name is refused, and nothing has happened then.
	_, err = b.deleteWhile(t, web, spare, "other")
	if f := want(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS); f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("the name of a third: %+v", f)
	}
	b.refresh(t, web, running)
	b.named(t, "web", web)
	b.named(t, "spare", spare)

	// While the provider cannot delete, the name means the survivor already.
	b.vendor.SetHook(failing("DeleteSandbox"))
	for range 2 {
		if _, err := b.deleteWhile(t, web, spare, "web"); err == nil {
			t.Fatal("the provider cannot delete, and nobody says so")
		}
		b.named(t, "web", spare)
	}
	b.named(t, "spare", "")
	b.vendor.SetHook(nil)
	b.await(t, "the end of the first", func(m map[string]*providerv1.Sandbox) bool { return m[web] == nil && m[spare] != nil })
	b.named(t, "web", spare)

	// Of one that is gone already the name is taken too, if nobody else has it.
	for range 2 {
		absent, err := b.deleteWhile(t, web, other, "mine")
		check(t, err)
		if !absent {
			t.Error("deleted twice")
		}
		b.named(t, "mine", other)
	}
	_, err = b.deleteWhile(t, web, other, "web")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS)
	b.named(t, "web", spare)
}

// TestRefusedDeleteGivesTheNameBack: the survivor of the undoing has its name again.
func TestRefusedDeleteGivesTheNameBack(t *testing.T) {
	b := newBench(t, broker.Options{})
	web := b.create(t, &brokerv1.CreateSandboxRequest{Name: "web"}).GetSandboxId()
	spare := b.create(t, &brokerv1.CreateSandboxRequest{Name: "spare"}).GetSandboxId()
	b.vendor.SetHook(once("DeleteSandbox", false, fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "never")))
	_, err := b.deleteWhile(t, web, spare, "web")
	want(t, err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED)
	b.named(t, "web", spare)
	_, err = b.deleteWhile(t, spare, web, "web")
	check(t, err)
	b.named(t, "web", web)
	b.refresh(t, web, running)
}

// TestKilledWhileTheNameIsHandedOver: the name means one that lives, whichever step the
// broker is killed at.
func TestKilledWhileTheNameIsHandedOver(t *testing.T) {
	for _, tc := range []struct {
		at    string
		ended bool
	}{
		{"before wish", false},
		{"after wish", true},
		{"vendor before", true},
		{"vendor after", true},
		{"before answer", true},
		{"after answer", true},
	} {
		t.Run(tc.at, func(t *testing.T) {
			t.Parallel()
			dir, vendor := crashSite(t, handOver)
			killAt(t, dir, vendor, handOver, tc.at)
			s := reopen(t, dir)
			sb, err := s.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: "n"})
			check(t, err) // also before all is settled
			settled(t, s)
			live := vendor.Sandboxes()
			if len(live) != map[bool]int{false: 2, true: 1}[tc.ended] || live[sb.GetSandboxId()] == nil {
				t.Errorf("n is %s, and the vendor has %v", sb.GetSandboxId(), live)
			}
			_, err = s.GetSandbox(t.Context(), &brokerv1.GetSandboxRequest{Sandbox: "heir"})
			if tc.ended {
				want(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
			} else {
				check(t, err)
			}
		})
	}
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
