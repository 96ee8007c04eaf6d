package daytona_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
)

// official is the version of the vendor's own client that is tried.
const official = "@daytona/sdk@0.216.0"

// TestOfficialClient runs the vendor's own client, unmodified, against the
// simulator: what it sends is taken, and what it is answered it accepts.
func TestOfficialClient(t *testing.T) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("THE VENDOR'S OWN CLIENT WAS NOT TRIED: there is no %s on this machine", tool)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"--fetch-retries=1", "--fetch-timeout=30000", official)
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("THE VENDOR'S OWN CLIENT WAS NOT TRIED: %s cannot be installed: %v\n%s", official, err, out)
	}
	script, err := os.ReadFile("testdata/official.mjs")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "official.mjs") // beside node_modules
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, daytona.Options{})
	run := exec.CommandContext(ctx, "node", file)
	run.Env = append(os.Environ(), "SIMULATOR="+c.url, "KEY="+daytona.DefaultKey)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("the vendor's own client failed: %v\n%s", err, out)
	}
	const want = "ok create, get\nok execute\nok sessions, logs\nok files\nok stop, start\nok refusals\nok delete\n"
	if string(out) != want {
		t.Errorf("it says (want all lines beginning with ok):\n%s", out)
	}
}
