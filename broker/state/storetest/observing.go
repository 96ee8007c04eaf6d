package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// countStates: what is gone is in no state.
func countStates(t *testing.T, s state.Store) {
	expect := func(want map[string]map[providerv1.SandboxState]int) {
		t.Helper()
		got, err := s.CountStates(t.Context())
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	expect(map[string]map[providerv1.SandboxState]int{})
	in := func(provider string, st providerv1.SandboxState) func(*state.Sandbox) {
		return func(sb *state.Sandbox) { sb.Body.Provider, sb.Status.State = provider, st }
	}
	gone := sandbox(5, in("q", running))
	check(t, s.InsertSandboxes(t.Context(), nil,
		sandbox(1, in("p", running)), sandbox(2, in("p", running)), sandbox(3, in("p", paused)), sandbox(4, in("q", paused)), gone))
	gone.Status.Gone, gone.GoneAt = true, start
	check(t, s.UpdateSandbox(t.Context(), gone))
	expect(map[string]map[providerv1.SandboxState]int{"p": {running: 2, paused: 1}, "q": {paused: 1}})
}

// countDue: as many as DueSandboxes would return without a limit.
func countDue(t *testing.T, s state.Store) {
	for n, after := range []time.Duration{time.Minute, time.Hour, 2 * time.Hour} {
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n+1, func(sb *state.Sandbox) {
			sb.Body.ExpiresAt = timestamppb.New(start.Add(after))
		})))
	}
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(9))) // never due
	for after, want := range map[time.Duration]int{0: 0, time.Minute: 1, 90 * time.Minute: 2, 3 * time.Hour: 3} {
		got, err := s.CountDue(t.Context(), start.Add(after))
		check(t, err)
		if got != want {
			t.Errorf("%d are due after %s, want %d", got, after, want)
		}
	}
}
