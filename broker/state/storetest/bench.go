package storetest

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// crowd is how many sandboxes the benchmarks call among.
const crowd = 100_000

// Benchmark measures single calls among 100 000 sandboxes.
func Benchmark(b *testing.B, open func(testing.TB) state.Store) {
	b.Helper()
	s := open(b)
	fill(b, s, crowd)
	ctx := b.Context()
	next := crowd
	mine := member(next)
	next++
	if err := s.InsertSandboxes(ctx, nil, mine); err != nil {
		b.Fatal(err)
	}
	page := state.Page{Size: 100}
	list := func(f state.Filter) error { _, _, err := s.ListSandboxes(ctx, f, page); return err }
	for _, call := range []struct {
		name string
		run  func() error
	}{
		{"insert", func() error { next++; return s.InsertSandboxes(ctx, nil, member(next)) }},
		{"update", func() error { return s.UpdateSandbox(ctx, mine) }},
		{"touch", func() error { return s.TouchSandbox(ctx, "sbx_00050000", time.Now()) }},
		{"get by id", func() error { _, err := s.Sandbox(ctx, "sbx_00050000"); return err }},
		{"get by name", func() error { _, err := s.Sandbox(ctx, "n-50000"); return err }},
		{"list", func() error { return list(state.Filter{}) }},
		{"list by rare label", func() error { return list(state.Filter{Labels: map[string]string{"rare": "yes"}}) }},
		{"list by state", func() error {
			return list(state.Filter{States: []providerv1.SandboxState{providerv1.SandboxState_SANDBOX_STATE_FAILED}})
		}},
		{"count", func() error { _, err := s.CountSandboxes(ctx); return err }},
		{"next due", func() error { _, err := s.NextDue(ctx); return err }},
	} {
		b.Run(call.name, func(b *testing.B) {
			for b.Loop() {
				if err := call.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores n sandboxes, every tenth PAUSED, one in a thousand with a rare
// label.
func fill(b *testing.B, s state.Store, n int) {
	b.Helper()
	for i := 0; i < n; i += 1000 {
		var rows []*state.Sandbox
		for j := i; j < i+1000; j++ {
			sb := member(j)
			if j%10 == 0 {
				sb.Status.State = paused
			}
			if j%1000 == 0 {
				sb.Body.Labels["rare"] = "yes"
			}
			rows = append(rows, sb)
		}
		if err := s.InsertSandboxes(b.Context(), nil, rows...); err != nil {
			b.Fatal(err)
		}
	}
}

func member(n int) *state.Sandbox {
	now := time.Now()
	return &state.Sandbox{Status: lifecycle.Status{State: running}, Version: 1, Body: &brokerv1.Sandbox{
		SandboxId: fmt.Sprintf("sbx_%08d", n), Name: fmt.Sprintf("n-%d", n), Provider: "p",
		CreatedAt: timestamppb.New(now), LastActiveAt: timestamppb.New(now), ExpiresAt: timestamppb.New(now.Add(time.Duration(n) * time.Second)),
		Labels: map[string]string{"team": strconv.Itoa(n % 7)},
	}}
}
