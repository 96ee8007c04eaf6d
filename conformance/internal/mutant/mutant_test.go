package mutant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/cases"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/spec"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestReferencePasses runs every case on the reference provider without a bug.
func TestReferencePasses(t *testing.T) {
	for _, target := range []struct {
		name   string
		make   func(*testing.T) subject.Target
		inputs map[string]string
	}{
		{"in process", func(*testing.T) subject.Target {
			return subject.NewInProcess(subject.DriverOptions{
				New: func() (sdk.Driver, error) { return fake.New(fake.Options{}), nil }, Exec: quick(),
			})
		}, nil},
		{"as a plugin", func(t *testing.T) subject.Target {
			t.Helper()
			h := host(t)
			target, err := subject.NewBinary(subject.BinaryOptions{Path: h.Path, Name: "fake", Args: h.Args})
			if err != nil {
				t.Fatal(err)
			}
			return target
		}, inputs},
	} {
		t.Run(target.name, func(t *testing.T) {
			for _, r := range runAll(t, target.make(t), cases.All(), with(map[string]string{"bulk_mib": "8", "memory_mib": "64", "disk_mib": "8"}, target.inputs)) {
				if r.Outcome == engine.Fail || r.Outcome == engine.Error {
					t.Error(describe(r))
				}
			}
		})
	}
}

// TestMutants runs each mutant against the case that it is for, which must fail.
// That no other fails which it does not name is what make mutate looks at.
func TestMutants(t *testing.T) {
	all := cases.All()
	for _, m := range All() {
		t.Run(strings.ReplaceAll(m.ID, "/", "."), func(t *testing.T) {
			t.Parallel()
			victim, ok := find(all, m.Kills)
			if !ok {
				t.Fatalf("it is for case %s, which does not exist", m.Kills)
			}
			h := host(t)
			if m.Provider != "" {
				h.Providers = map[string]string{m.Provider: realProvider(t, m.Provider)}
			}
			target, err := m.Target(victim, h)
			if err != nil {
				t.Fatal(err)
			}
			run := slices.DeleteFunc(slices.Clone(all), func(c engine.Case) bool {
				return c.ID != m.Kills && !slices.Contains(m.Also, c.ID)
			})
			for _, r := range runAll(t, target, run, with(impatient, m.Inputs)) {
				id := r.Case.ID
				if id == m.Kills && r.Outcome != engine.Fail {
					t.Errorf("%s ended with %s %s %q: want it to fail, because %s", id, r.Outcome, r.Detail, r.Problems, m.Bug)
				}
			}
		})
	}
}

// TestEveryCaseHasAMutant keeps cases that cannot fail out of the suite.
func TestEveryCaseHasAMutant(t *testing.T) {
	killed := map[string]bool{}
	ids := map[string]bool{}
	for _, m := range All() {
		if ids[m.ID] {
			t.Errorf("mutant %s exists twice", m.ID)
		}
		ids[m.ID] = true
		killed[m.Kills] = true
		if !strings.HasPrefix(m.ID, m.Kills+"~") || m.Bug == "" {
			t.Errorf("mutant %s: want an id that starts with %s~, and a bug in words", m.ID, m.Kills)
		}
	}
	for _, c := range cases.All() {
		if !killed[c.ID] {
			t.Errorf("case %s has never been seen to fail: write the mutant that it kills", c.ID)
		}
	}
}

// TestEveryRequirementHasACase keeps the contract's text honest. What has no case
// yet stands in testdata/uncovered.txt, which may only get shorter.
func TestEveryRequirementHasACase(t *testing.T) {
	checked := map[string]bool{}
	for _, c := range cases.All() {
		for _, id := range c.Requirements {
			checked[id] = true
		}
	}
	content, err := os.ReadFile("testdata/uncovered.txt")
	if err != nil {
		t.Fatal(err)
	}
	uncovered := strings.Fields(string(content))
	all, err := spec.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		listed := slices.Contains(uncovered, r.ID)
		switch {
		case r.Level == spec.Must && !checked[r.ID] && !listed:
			t.Errorf("%s has no case: %s", r.ID, r.Text)
		case checked[r.ID] && listed:
			t.Errorf("%s has a case now: take it out of testdata/uncovered.txt", r.ID)
		}
	}
}

// impatient makes mutants that hang die sooner, and the others move less.
var impatient = map[string]string{"bulk_mib": "3", "memory_mib": "64", "disk_mib": "4", "patience": "5s"}

// realProvider builds a provider of this module, once, and skips the test where
// it cannot make sandboxes.
func realProvider(t *testing.T, name string) string {
	t.Helper()
	built.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "sandbar-mutant")
		if built.err != nil {
			return
		}
		build := exec.CommandContext(context.Background(), "go", "build", "-o", built.dir, "github.com/sandbar-dev/sandbar/cmd/sandbar-provider-"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the provider: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	path := filepath.Join(built.dir, "sandbar-provider-"+name)
	target, err := subject.NewBinary(subject.BinaryOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	inst, err := target.Open(t.Context(), subject.OpenOptions{Owner: "probe"})
	if err != nil {
		t.Fatal(err)
	}
	rec := subject.NewRecorder(inst.Conn, subject.NewLedger())
	resp, err := providerv1.NewProviderServiceClient(rec).Probe(t.Context(), &providerv1.ProbeRequest{})
	if err := errors.Join(err, inst.Close(t.Context()), target.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !resp.GetReady() {
		t.Skipf("provider %s cannot make sandboxes here: %v", name, resp.GetChecks())
	}
	return path
}

// built is the folder of real providers; TestMain removes it.
var built struct {
	sync.Once
	dir string
	err error
}

func runAll(t *testing.T, target subject.Target, run []engine.Case, inputs map[string]string) []engine.Result {
	t.Helper()
	results, err := engine.Run(t.Context(), engine.Options{
		Target: target, Cases: run, Run: "conformance-" + strings.ReplaceAll(t.Name(), "/", "."), Seed: 1, Inputs: inputs,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return results
}

// with adds what else the operator gives.
func with(inputs, more map[string]string) map[string]string {
	out := maps.Clone(inputs)
	maps.Copy(out, more)
	return out
}

func describe(r engine.Result) string {
	var b strings.Builder
	b.WriteString(r.Case.ID + ": " + string(r.Outcome) + "\n  " + strings.Join(r.Problems, "\n  "))
	for _, s := range r.Steps {
		b.WriteString("\n    at " + s.At.String() + ": " + s.Text)
	}
	for _, c := range r.Calls {
		b.WriteString("\n    " + c.Method + " " + strings.Join(c.Sent, " ") + " → " + strings.Join(c.Received, " ") + c.Error)
	}
	return b.String()
}

func find(all []engine.Case, id string) (engine.Case, bool) {
	i := slices.IndexFunc(all, func(c engine.Case) bool { return c.ID == id })
	if i < 0 {
		return engine.Case{}, false
	}
	return all[i], true
}
