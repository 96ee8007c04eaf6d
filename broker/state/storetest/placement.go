package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// placements live and end with their sandboxes.
func placements(t *testing.T, s state.Store) {
	in := &brokerv1.Placement{
		DecidedAt: timestamppb.New(start), Provider: "p",
		Candidates: []*brokerv1.PlacementCandidate{{Provider: "p", Score: &brokerv1.PlacementScore{Total: 0.5}}},
		Attempts:   []*brokerv1.PlacementAttempt{{Provider: "q", Reason: "QUOTA_EXCEEDED", Message: "full"}},
	}
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(1, func(sb *state.Sandbox) { sb.Placement = in }), sandbox(2)))
	expect := func(id string, want *brokerv1.Placement) {
		t.Helper()
		got, err := s.Placement(t.Context(), id)
		check(t, err)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", id, diff)
		}
	}
	expect("sbx_001", in)
	expect("sbx_002", nil)
	_, err := s.Placement(t.Context(), "sbx_003")
	want(t, err, state.ErrNotFound)

	sb, err := s.Sandbox(t.Context(), "sbx_001")
	check(t, err)
	sb.Status.Gone, sb.GoneAt = true, start
	check(t, s.UpdateSandbox(t.Context(), sb)) // which does not know its placement
	expect("sbx_001", in)
	check(t, s.PurgeGone(t.Context(), start.Add(time.Second)))
	remove(t, s, "sbx_002")
	for _, id := range []string{"sbx_001", "sbx_002"} {
		_, err := s.Placement(t.Context(), id)
		want(t, err, state.ErrNotFound)
	}
}

func counts(t *testing.T, s state.Store) {
	on := func(provider string) func(*state.Sandbox) {
		return func(sb *state.Sandbox) { sb.Body.Provider = provider }
	}
	expect := func(want map[string]int) {
		t.Helper()
		got, err := s.CountSandboxes(t.Context())
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	expect(map[string]int{})
	gone := sandbox(4, on("p"))
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(1, on("p")), sandbox(2, on("p")), sandbox(3, on("q")), gone))
	gone.Status.Gone, gone.GoneAt = true, start
	check(t, s.UpdateSandbox(t.Context(), gone))
	expect(map[string]int{"p": 2, "q": 1})
	remove(t, s, "sbx_003")
	expect(map[string]int{"p": 2})
}

func measurements(t *testing.T, s state.Store) {
	expect := func(want map[string]placement.Measurement) {
		t.Helper()
		got, err := s.Measurements(t.Context())
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	expect(map[string]placement.Measurement{})
	all := map[string]placement.Measurement{
		"p": {
			Good: 1.25, Bad: 0.5, Seconds: 3.75, At: start, Streak: 2,
			OpenUntil: start.Add(time.Minute), Openings: 3, CoolUntil: start.Add(time.Nanosecond),
		},
		"q": {},
	}
	check(t, s.PutMeasurements(t.Context(), all))
	expect(all)
	all["q"] = placement.Measurement{Good: 1, At: start}
	check(t, s.PutMeasurements(t.Context(), map[string]placement.Measurement{"q": all["q"]}))
	expect(all)
	check(t, s.PutMeasurements(t.Context(), nil))
	expect(all)
}
