package conformance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

const (
	howto  = "../docs/howto/ship-a-plugin.md"
	vendor = "testdata/vendor"
)

// TestHowtoShowsTheProviderThatIsTested keeps the document and the program one.
func TestHowtoShowsTheProviderThatIsTested(t *testing.T) {
	doc, err := os.ReadFile(howto)
	if err != nil {
		t.Fatal(err)
	}
	rest := string(doc)
	for _, name := range []string{"main.go", "main_test.go"} {
		code, err := os.ReadFile(filepath.Join(vendor, name))
		if err != nil {
			t.Fatal(err)
		}
		var shown string
		_, rest, _ = strings.Cut(rest, "```go\n")
		shown, rest, _ = strings.Cut(rest, "```\n")
		if shown != string(code) {
			t.Errorf("the Go block for %s in %s is not %s", name, howto, filepath.Join(vendor, name))
		}
	}
}

// outside builds the provider as its author does: in a module of its own, in
// which there is nothing else, and offline.
func outside(t *testing.T) (binary string) {
	t.Helper()
	module := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{filepath.Join(vendor, "main.go"): "main.go", filepath.Join(root, "go.sum"): "go.sum"} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(module, to), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const sandbar = "github.com/sandbar-dev/sandbar"
	for _, args := range [][]string{
		{"mod", "init", "example.com/sandbar-provider-folder"},
		{"mod", "edit", "-require=" + sandbar + "@v0.0.0", "-replace=" + sandbar + "=" + root},
		{"build", "-mod=mod", "-o", "sandbar-provider-folder", "."},
	} {
		run := exec.CommandContext(t.Context(), "go", args...)
		run.Dir, run.Env = module, append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return filepath.Join(module, "sandbar-provider-folder")
}

// TestCoreOnlyIsConformant: a provider that implements the core and nothing else
// is conformant, and everything else is refused.
func TestCoreOnlyIsConformant(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("its sandboxes run as another user, which takes root")
	}
	binary := outside(t)
	var failures []string
	r, err := conformance.Run(t.Context(), conformance.Binary(binary), conformance.Options{Observe: func(p conformance.Progress) {
		if p.Case.Outcome == report.Fail || p.Case.Outcome == report.Error {
			failures = append(failures, p.Case.Text(p.Rerun))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Summary() != "conformant: core, resilience" {
		t.Errorf("the provider of %s is %q: want \"conformant: core, resilience\"\n%s", howto, r.Summary(), strings.Join(failures, "\n"))
	}
	// Attaching after a restart of the plugin is a promise, and no call of its own
	// that could be refused.
	if diff := cmp.Diff([]string{"exec.reattach"}, r.Capabilities.Unchecked); diff != "" {
		t.Errorf("nobody looked whether these are refused: %s", diff)
	}
}
