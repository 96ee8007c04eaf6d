package mutant

import (
	"slices"
	"strings"
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/cases"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestCorePasses runs everything on the reference provider with nothing optional.
func TestCorePasses(t *testing.T) {
	target := subject.NewInProcess(subject.DriverOptions{
		New: func() (sdk.Driver, error) { return CoreOnly(fake.New(fake.Options{})), nil }, Exec: quick(),
	})
	wantNoFailure(t, runAll(t, target, cases.All(), impatient), "")
}

// TestEachCapabilityCanBeMissing runs each refusal on a reference provider that
// does not declare the capability, and on one that switched it off.
func TestEachCapabilityCanBeMissing(t *testing.T) {
	for _, c := range cases.All() {
		id, ok := strings.CutPrefix(c.ID, "cap/")
		id, refused := strings.CutSuffix(id, "/refused")
		if !ok || !refused {
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			without := subject.NewInProcess(subject.DriverOptions{
				New: func() (sdk.Driver, error) { return Without(fake.New(fake.Options{}), id), nil }, Exec: quick(),
			})
			wantNoFailure(t, runAll(t, without, []engine.Case{c}, nil), c.ID)
			if !has(t, id) {
				return
			}
			off := subject.NewInProcess(subject.DriverOptions{
				New:      func() (sdk.Driver, error) { return fake.New(fake.Options{}), nil },
				Settings: map[string]any{"disable": []any{id}},
			})
			wantNoFailure(t, runAll(t, off, []engine.Case{c}, nil), c.ID)
		})
	}
}

// TestPromisesCanBeKept runs the uses of what the reference provider does not
// have on one that acts as if.
func TestPromisesCanBeKept(t *testing.T) {
	for _, id := range []string{
		"compute.gpu", "egress.capture", "egress.native", "egress.open", "egress.update", "image.host", "port.url",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			target := subject.NewInProcess(subject.DriverOptions{
				New: func() (sdk.Driver, error) { return Promising(fake.New(fake.Options{}), id), nil }, Exec: quick(),
			})
			c, ok := find(cases.All(), "cap/"+id+"/works")
			if !ok {
				t.Fatal("there is no such case")
			}
			wantNoFailure(t, runAll(t, target, []engine.Case{c}, inputs), c.ID)
		})
	}
}

// has reports whether the reference provider has a capability.
func has(t *testing.T, id string) bool {
	t.Helper()
	described, err := fake.New(fake.Options{}).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(described.GetCapabilities(), func(c *providerv1.Capability) bool { return c.GetId() == id })
}

// wantNoFailure also wants one case to have run; "" stands for none in
// particular.
func wantNoFailure(t *testing.T, results []engine.Result, must string) {
	t.Helper()
	for _, r := range results {
		if r.Outcome == engine.Fail || r.Outcome == engine.Error || r.Case.ID == must && r.Outcome != engine.Pass {
			t.Error(describe(r), r.Detail)
		}
	}
}
