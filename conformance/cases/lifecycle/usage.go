package lifecycle

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func usage() []engine.Case {
	return []engine.Case{{
		ID: "usage/grows", Title: "Usage counts what a sandbox did, and counts never fall.",
		Profile: engine.Core, Requirements: []string{"REQ-USE-001"}, Needs: []string{"usage"}, Cost: 5,
		Run: grows,
	}}
}

// figure is one number of a usage; absent ones are left out.
type figure struct {
	name  string
	value *int64
	// counts says that it never falls.
	counts bool
}

func figures(u *providerv1.Usage) []figure {
	var active *int64
	if u.GetActive() != nil {
		n := int64(u.GetActive().AsDuration())
		active = &n
	}
	return []figure{
		{"cpu_nanos", u.CpuNanos, true},
		{"memory_bytes", u.MemoryBytes, false},
		{"memory_peak_bytes", u.MemoryPeakBytes, true},
		{"disk_bytes", u.DiskBytes, false},
		{"pids", u.Pids, false},
		{"network_rx_bytes", u.NetworkRxBytes, true},
		{"network_tx_bytes", u.NetworkTxBytes, true},
		{"active", active, true},
		{"cost_micro_usd", u.CostMicroUsd, true},
	}
}

func grows(t *engine.T) {
	asked := time.Now()
	box := stage.Create(t)
	first := plausible(t, box, asked)
	t.Step("work")
	box.Sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").Code(0)
	second := plausible(t, box, asked)
	before, after := figures(first), figures(second)
	for i, f := range after {
		switch {
		case f.value == nil || before[i].value == nil:
		case f.counts && *f.value < *before[i].value:
			t.Errorf("%s fell from %d to %d: want it never to fall", f.name, *before[i].value, *f.value)
		}
	}
	if first.GetActive() != nil && second.GetActive().AsDuration() <= first.GetActive().AsDuration() {
		// A vendor may count whole seconds, or tell later.
		stage.Eventually(t, t.Slowly(settling), "active to grow while the sandbox runs", func(context.Context) bool {
			return plausible(t, box, asked).GetActive().AsDuration() > first.GetActive().AsDuration()
		})
	}
	if first.CpuNanos != nil && second.GetCpuNanos() <= first.GetCpuNanos() {
		stage.Eventually(t, t.Slowly(settling), "cpu_nanos to grow with work", func(context.Context) bool {
			return plausible(t, box, asked).GetCpuNanos() > first.GetCpuNanos()
		})
	}
}

// plausible asks for usage and checks what holds at any time.
func plausible(t *engine.T, box *stage.Box, asked time.Time) *providerv1.Usage {
	resp, err := box.Client().GetUsage(t.Context(), &providerv1.GetUsageRequest{Sandbox: box.Ref})
	stage.OK(t, "GetUsage", err)
	u := resp.GetUsage()
	for _, f := range figures(u) {
		if f.value != nil && *f.value < 0 {
			t.Errorf("%s is %d: want 0 or more", f.name, *f.value)
		}
	}
	const rounding = 2 * time.Second
	if lived := time.Since(asked); u.GetActive().AsDuration() > lived+rounding {
		t.Errorf("active is %s: want at most %s, which is since it was asked for", u.GetActive().AsDuration(), lived.Round(time.Millisecond))
	}
	return u
}
