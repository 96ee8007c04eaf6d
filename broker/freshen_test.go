package broker_test

import (
	"errors"
	"testing"

	"github.com/sandbar-dev/sandbar/broker"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (b *bench) states(t *testing.T, req *brokerv1.ListSandboxesRequest) map[string]providerv1.SandboxState {
	t.Helper()
	list, err := b.ListSandboxes(t.Context(), req)
	check(t, err)
	out := map[string]providerv1.SandboxState{}
	for _, sb := range list.GetSandboxes() {
		out[sb.GetSandboxId()] = sb.GetState()
	}
	return out
}

// TestAListingKnowsOfDeathsNobodyAskedFor: a sandbox that vanished at the vendor
// is FAILED in the next listing, without a call that used it, and no longer among
// those that run.
func TestAListingKnowsOfDeathsNobodyAskedFor(t *testing.T) {
	b := newBench(t, broker.Options{})
	dead := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
	alive := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
	b.vendor.Kill(dead)
	got := b.states(t, &brokerv1.ListSandboxesRequest{})
	if got[dead] != failed || got[alive] != running || len(got) != 2 {
		t.Errorf("listing: %v", got)
	}
	only := b.states(t, &brokerv1.ListSandboxesRequest{States: []providerv1.SandboxState{running}})
	if only[alive] != running || len(only) != 1 {
		t.Errorf("running ones: %v", only)
	}
}

// TestAListingDoesNotHammerProviders: looks in quick succession ask once, and one
// that fails changes nothing.
func TestAListingDoesNotHammerProviders(t *testing.T) {
	b := newBench(t, broker.Options{})
	id := b.create(t, &brokerv1.CreateSandboxRequest{}).GetSandboxId()
	before := b.vendor.Calls("Recover")
	b.vendor.SetHook(once("Recover", false, errors.New("not now")))
	for range 50 {
		if got := b.states(t, &brokerv1.ListSandboxesRequest{}); got[id] != running {
			t.Fatalf("listing: %v", got)
		}
	}
	// A call that failed without a word of the contract is sent once more.
	if n := b.vendor.Calls("Recover") - before; n < 1 || n > 6 {
		t.Errorf("50 listings asked %d times", n)
	}
}
