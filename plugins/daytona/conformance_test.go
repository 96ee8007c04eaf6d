package daytona_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

// TestConformance runs the whole suite against the plugin, which is this binary as
// a process of its own, and a simulator whose guests are in memory. make conformance
// runs it with the real binary and guests in gVisor.
func TestConformance(t *testing.T) {
	v := newVendor(t)
	r := conformance.Test(t, conformance.Binary(asPlugin(t), conformance.Setup{Settings: v.settings(), Secrets: secrets()}), conformance.Options{
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

// asPlugin is this binary under the name of a plugin.
func asPlugin(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }() // it was only read
	name := filepath.Join(t.TempDir(), binaryName)
	to, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}
