package main

import (
	"testing"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// TestConformance runs the suite against the driver in this process, where a
// debugger sees both.
func TestConformance(t *testing.T) {
	target := conformance.InProcess(func() (sdk.Driver, error) { return &driver{running: map[string][]int{}}, nil })
	if r := conformance.Test(t, target, conformance.Options{}); r.Verdict != report.Conformant {
		t.Errorf("verdict %s: want conformant", r.Verdict)
	}
}
