package daytona_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
)

// TestConformance runs the whole suite against the plugin, which is this binary as
// a process of its own, and a simulator whose guests are in memory. make conformance
// runs it with the real binary and guests in gVisor.
func TestConformance(t *testing.T) {
	v := newVendor(t)
	r := conformance.Test(t, conformance.Binary(providertest.Binary(t, binaryName), conformance.Setup{Settings: v.settings(), Secrets: secrets()}), conformance.Options{
		Inputs: map[string]string{"template": "daytona-medium", "region": "eu", "bulk_mib": "1", "patience": "1m"},
	})
	if t.Failed() {
		return
	}
	var got []string
	for _, p := range r.Profiles {
		if p.Verdict == report.Conformant {
			got = append(got, p.Name)
		}
	}
	if diff := cmp.Diff([]string{"core", "exec", "files", "ports", "network", "resilience"}, got); diff != "" {
		t.Errorf("conformant profiles (- want, + got):\n%s", diff)
	}
}
