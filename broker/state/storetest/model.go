package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// modelSteps bounds one random life of a store; each opens a new one.
const modelSteps = 40

// model compares a store with a map, over random operations.
func model(t *testing.T, open func(testing.TB) state.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t)
		known := make(map[int]*state.Sandbox)
		made := 0
		check(t, s.InsertTenant(t.Context(), &brokerv1.Tenant{Name: "acme"}))
		for range rapid.IntRange(1, modelSteps).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"insert", "update", "stale", "end", "remove"}).Draw(rt, "step") {
			case "insert":
				n := made
				made++
				sb := sandbox(n, func(sb *state.Sandbox) {
					sb.Body.Provider = rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "provider")
					sb.Body.Tenant = rapid.SampledFrom([]string{"default", "acme"}).Draw(rt, "tenant")
					sb.Body.Labels = map[string]string{"l": rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "label")}
				})
				check(t, s.InsertSandboxes(t.Context(), nil, sb))
				known[n] = sb
			case "update":
				if sb := pick(rt, known); sb != nil {
					sb.Status.State = rapid.SampledFrom([]providerv1.SandboxState{running, paused}).Draw(rt, "state")
					check(t, s.UpdateSandbox(t.Context(), sb))
				}
			case "stale":
				if sb := pick(rt, known); sb != nil {
					old := sb.Clone()
					old.Version--
					want(t, s.UpdateSandbox(t.Context(), old), state.ErrConflict)
				}
			case "end":
				if sb := pick(rt, known); sb != nil {
					sb.Status.Gone, sb.GoneAt = true, start
					check(t, s.UpdateSandbox(t.Context(), sb))
				}
			case "remove":
				if sb := pick(rt, known); sb != nil {
					remove(t, s, sb.ID())
					maps.DeleteFunc(known, func(_ int, k *state.Sandbox) bool { return k == sb })
				}
			}
		}
		compare(rt, t, s, known, made)
	})
}

func pick(rt *rapid.T, known map[int]*state.Sandbox) *state.Sandbox {
	if len(known) == 0 {
		return nil
	}
	return known[rapid.SampledFrom(slices.Sorted(maps.Keys(known))).Draw(rt, "which")]
}

func compare(rt *rapid.T, t *testing.T, s state.Store, known map[int]*state.Sandbox, made int) {
	f := state.Filter{}
	if rapid.Bool().Draw(rt, "by label") {
		f.Labels = map[string]string{"l": "a"}
	}
	if rapid.Bool().Draw(rt, "by provider") {
		f.Provider = "p"
	}
	if rapid.Bool().Draw(rt, "by tenant") {
		f.Tenant = "acme"
	}
	if rapid.Bool().Draw(rt, "by state") {
		f.States = []providerv1.SandboxState{paused}
	}
	var expect []int
	for n, sb := range known {
		if !sb.Status.Gone && (f.Labels == nil || sb.Body.GetLabels()["l"] == "a") &&
			(f.Tenant == "" || sb.Tenant() == "acme") && (f.Provider == "" || sb.Body.GetProvider() == "p") && (f.States == nil || sb.Status.State == paused) {
			expect = append(expect, n)
		}
	}
	got := walk(t, s, f, rapid.IntRange(1, 5).Draw(rt, "page"))
	if diff := cmp.Diff(sortedDown(expect), got, cmpopts.EquateEmpty()); diff != "" {
		rt.Fatalf("listing %+v: -want +got:\n%s", f, diff)
	}
	for n := range made {
		got, err := s.Sandbox(t.Context(), fmt.Sprintf("sbx_%03d", n))
		switch sb := known[n]; {
		case sb == nil && !errors.Is(err, state.ErrNotFound):
			rt.Fatalf("sandbox %d was removed: %v", n, err)
		case sb != nil && (err != nil || got.Version != sb.Version || got.Status != sb.Status):
			rt.Fatalf("sandbox %d is %+v (%v), want %+v", n, got, err, sb)
		}
	}
}
