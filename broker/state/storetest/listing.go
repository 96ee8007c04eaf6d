package storetest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func due(t *testing.T, s state.Store) {
	minute := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	check(t, s.InsertSandboxes(t.Context(), nil,
		sandbox(1),
		sandbox(2, func(sb *state.Sandbox) { sb.Body.ExpiresAt = timestamppb.New(minute(3)) }),
		sandbox(3, func(sb *state.Sandbox) { sb.RetryAt = minute(1); sb.Body.ExpiresAt = timestamppb.New(start) }),
		sandbox(4, func(sb *state.Sandbox) { sb.Body.Idle = &brokerv1.Idle{Timeout: durationpb.New(2 * time.Minute)} }),
		sandbox(5, func(sb *state.Sandbox) {
			sb.Body.Idle = &brokerv1.Idle{Timeout: durationpb.New(time.Minute)}
			sb.Status.State = paused // the idle are those that run
		})))
	expect := func(now time.Time, limit int, ids ...string) {
		t.Helper()
		rows, err := s.DueSandboxes(t.Context(), now, limit)
		check(t, err)
		var got []string
		for _, sb := range rows {
			got = append(got, sb.ID())
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("due at %v: -want +got:\n%s", now, diff)
		}
	}
	expect(start, 10)
	expect(minute(2), 10, "sbx_003", "sbx_004")
	expect(minute(9), 2, "sbx_003", "sbx_004")
	check(t, s.TouchSandbox(t.Context(), "sbx_004", minute(2)))
	expect(minute(3), 10, "sbx_003", "sbx_002")
	next, err := s.NextDue(t.Context())
	check(t, err)
	if !next.Equal(minute(1)) {
		t.Errorf("next due at %v, want %v", next, minute(1))
	}
	remove(t, s, "sbx_002", "sbx_003", "sbx_004")
	next, err = s.NextDue(t.Context())
	check(t, err)
	if !next.IsZero() {
		t.Errorf("next due at %v, want never", next)
	}
}

func list(t *testing.T, s state.Store) {
	for n := range 6 {
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n, func(sb *state.Sandbox) {
			sb.Body.Labels = map[string]string{"odd": strconv.FormatBool(n%2 == 1), "all": "x"}
			if n > 2 {
				sb.Body.Provider, sb.Status.State = "q", paused
			}
		})))
	}
	for _, tc := range []struct {
		name   string
		filter state.Filter
		want   []int
	}{
		{"all", state.Filter{}, []int{5, 4, 3, 2, 1, 0}},
		{"label", state.Filter{Labels: map[string]string{"odd": "true"}}, []int{5, 3, 1}},
		{"labels", state.Filter{Labels: map[string]string{"odd": "true", "all": "x"}}, []int{5, 3, 1}},
		{"no such value", state.Filter{Labels: map[string]string{"odd": "x"}}, nil},
		{"one label of two", state.Filter{Labels: map[string]string{"all": "x", "none": ""}}, nil},
		{"provider", state.Filter{Provider: "q"}, []int{5, 4, 3}},
		{"state", state.Filter{States: []providerv1.SandboxState{running}}, []int{2, 1, 0}},
		{"states", state.Filter{States: []providerv1.SandboxState{running, paused}}, []int{5, 4, 3, 2, 1, 0}},
		{"everything", state.Filter{Labels: map[string]string{"odd": "false"}, Provider: "q", States: []providerv1.SandboxState{paused}}, []int{4}},
	} {
		for _, size := range []int{1, 2, 10} {
			if diff := cmp.Diff(tc.want, walk(t, s, tc.filter, size)); diff != "" {
				t.Errorf("%s by %d: -want +got:\n%s", tc.name, size, diff)
			}
		}
	}
}

// walk lists page by page and returns the numbers of the sandboxes.
func walk(t *testing.T, s state.Store, f state.Filter, size int) []int {
	t.Helper()
	var out []int
	for token := ""; ; {
		rows, next, err := s.ListSandboxes(t.Context(), f, state.Page{Size: size, Token: token})
		check(t, err)
		if len(rows) > size {
			t.Fatalf("a page of %d has %d", size, len(rows))
		}
		for _, sb := range rows {
			var n int
			if _, err := fmt.Sscanf(sb.ID(), "sbx_%d", &n); err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		if token = next; token == "" {
			return out
		}
	}
}

func tokens(t *testing.T, s state.Store) {
	for n := range 4 {
		check(t, s.InsertSandboxes(t.Context(), nil, sandbox(n)))
	}
	_, token, err := s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 2})
	check(t, err)
	// What comes and goes meanwhile moves nothing.
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(9)))
	remove(t, s, "sbx_003", "sbx_002")
	rows, token, err := s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 2, Token: token})
	check(t, err)
	if len(rows) != 2 || rows[0].ID() != "sbx_001" || rows[1].ID() != "sbx_000" || token != "" {
		t.Errorf("second page has %d rows and token %q", len(rows), token)
	}
	_, token, err = s.ListSandboxes(t.Context(), state.Filter{}, state.Page{Size: 1})
	check(t, err)
	for _, bad := range []struct {
		filter state.Filter
		token  string
	}{{state.Filter{}, "x"}, {state.Filter{}, "AAAA"}, {state.Filter{Provider: "p"}, token}} {
		_, _, err := s.ListSandboxes(t.Context(), bad.filter, state.Page{Size: 1, Token: bad.token})
		want(t, err, state.ErrBadToken)
	}
}

func purge(t *testing.T, s state.Store) {
	gone := func(at time.Time) func(*state.Sandbox) {
		return func(sb *state.Sandbox) { sb.Status.Gone, sb.GoneAt = true, at }
	}
	check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "default", Key: "old", IDs: []string{"sbx_001"}, At: start},
		sandbox(1, gone(start), func(sb *state.Sandbox) { sb.RequestKey = "old" })))
	check(t, s.InsertSandboxes(t.Context(), &state.Request{Tenant: "default", Key: "live", IDs: []string{"sbx_002"}, At: start},
		sandbox(2, func(sb *state.Sandbox) { sb.RequestKey = "live" })))
	check(t, s.InsertSandboxes(t.Context(), nil, sandbox(3, gone(start.Add(time.Hour)))))
	check(t, s.PurgeGone(t.Context(), start.Add(time.Minute)))
	for id, there := range map[string]bool{"sbx_001": false, "sbx_002": true, "sbx_003": true} {
		if _, err := s.Sandbox(t.Context(), id); (err == nil) != there {
			t.Errorf("%s: %v", id, err)
		}
	}
	_, err := s.Request(t.Context(), "default", "old")
	want(t, err, state.ErrNotFound)
	_, err = s.Request(t.Context(), "default", "live")
	check(t, err)
}

func sortedDown(ids []int) []int {
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids
}
