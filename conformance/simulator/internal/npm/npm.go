// Package npm runs a vendor's own client for JavaScript, unmodified, against its
// simulator in a test: what it sends is taken, and what it is answered it accepts.
package npm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Run installs a version of a package, such as @vendor/sdk@1.2.3, runs
// testdata/official.mjs with it and returns what that says. env is added to the
// environment. Where the package cannot be had, the test is skipped, loudly.
func Run(t *testing.T, client string, env ...string) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("THE VENDOR'S OWN CLIENT WAS NOT TRIED: there is no %s on this machine", tool)
		}
	}
	dir := t.TempDir()
	const patience = 5 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"--fetch-retries=1", "--fetch-timeout=30000", client)
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("THE VENDOR'S OWN CLIENT WAS NOT TRIED: %s cannot be installed: %v\n%s", client, err, out)
	}
	script, err := os.ReadFile("testdata/official.mjs")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "official.mjs") // beside node_modules
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(ctx, "node", file)
	run.Env = append(run.Environ(), env...)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("the vendor's own client failed: %v\n%s", err, out)
	}
	return string(out)
}
