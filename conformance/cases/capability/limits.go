package capability

import (
	"context"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// limit is one of those that docs/spec/capabilities.md names.
type limit struct {
	capability, name string
	// spec asks for n; nil if it is no matter of the spec.
	spec func(n int64) func(*providerv1.SandboxSpec)
}

// Known are the limits that the contract names, by capability.
func Known() map[string][]string {
	out := map[string][]string{}
	for _, l := range known() {
		out[l.capability] = append(out[l.capability], l.name)
	}
	return out
}

func known() []limit {
	resources := func(r func(int64) *providerv1.Resources) func(int64) func(*providerv1.SandboxSpec) {
		return func(n int64) func(*providerv1.SandboxSpec) {
			return func(s *providerv1.SandboxSpec) { s.Resources = r(n) }
		}
	}
	return []limit{
		{"compute.cpu", "max", resources(func(n int64) *providerv1.Resources { return &providerv1.Resources{CpuMillis: n} })},
		{"compute.disk", "max", resources(func(n int64) *providerv1.Resources { return &providerv1.Resources{DiskBytes: n} })},
		{"compute.memory", "max", resources(func(n int64) *providerv1.Resources { return &providerv1.Resources{MemoryBytes: n} })},
		{"compute.pids", "max", resources(func(n int64) *providerv1.Resources { return &providerv1.Resources{Pids: n} })},
		{"fork", "max_copies", nil},
		{"lifetime.native", "max_seconds", func(n int64) func(*providerv1.SandboxSpec) {
			return func(s *providerv1.SandboxSpec) { s.Lifetime = durationpb.New(time.Duration(n) * time.Second) }
		}},
		{"port.declare", "max_ports", func(n int64) func(*providerv1.SandboxSpec) {
			return func(s *providerv1.SandboxSpec) {
				const first = 1024
				for port := range uint32(n) {
					s.Ports = append(s.Ports, first+port)
				}
			}
		}},
	}
}

// limits are the cases about what capabilities promise in numbers.
func limits() []engine.Case {
	var out []engine.Case
	for _, l := range known() {
		out = append(out, engine.Case{
			ID: "cap/limits/" + l.capability + "." + l.name, Title: "The limit " + l.name + " of " + l.capability + " can be reached and not passed.",
			Profile: engine.Core, Requirements: []string{"REQ-CAP-006"}, Needs: []string{l.capability}, Kinds: own, Cost: 10,
			Run: l.check,
		})
	}
	return out
}

func (l limit) check(t *engine.T) {
	most, declared := t.Instance().Limit(l.capability, l.name)
	if !declared {
		t.Skip(engine.NotDeclared, l.capability+" with limit "+l.name)
	}
	if most < 1 {
		t.Fatalf("limit %s of %s is %d: want 1 or more", l.name, l.capability, most)
	}
	t.Step("ask for %d", most)
	_, err := l.ask(t, most)
	stage.OK(t, "asking for "+strconv.FormatInt(most, 10)+", the limit", err)
	t.Step("ask for %d", most+1)
	key, err := l.ask(t, most+1)
	what := "asking for " + strconv.FormatInt(most+1, 10) + ", one above the limit,"
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	stage.NoEffect(t, what, f)
	stage.Names(t, what, f, "limit", l.name)
	stage.Names(t, what, f, "max", strconv.FormatInt(most, 10))
	unmade(t, what, key)
}

// ask asks for n, and returns the key it did that with.
func (l limit) ask(t *engine.T, n int64) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), t.Slowly(engine.DefaultBudget))
	defer cancel()
	if l.spec == nil {
		return askCopies(ctx, t, n)
	}
	req := stage.NewRequest(t)
	l.spec(n)(req.GetSpec())
	_, err := t.Client().CreateSandbox(ctx, req)
	return req.GetOperation().GetIdempotencyKey(), err //nolint:wrapcheck // it is the peer's answer
}

func askCopies(ctx context.Context, t *engine.T, n int64) (string, error) {
	box := stage.Create(t)
	req := &providerv1.ForkSandboxRequest{Sandbox: box.Ref, Operation: stage.NewOperation(), Minimum: stage.Values(t, box).Least("fork")}
	for range n {
		req.Identities = append(req.Identities, stage.NewIdentity(t))
	}
	_, err := t.Client().ForkSandbox(ctx, req)
	return req.GetOperation().GetIdempotencyKey(), err //nolint:wrapcheck // it is the peer's answer
}

// excluded are the cases about sandboxes that lack what the provider has.
func excluded() []engine.Case {
	return []engine.Case{{
		ID: "excluded/refused", Title: "A sandbox refuses the capabilities that it says it does not have.",
		Profile: engine.Core, Requirements: []string{"REQ-CAP-007"}, Kinds: own, Cost: 5,
		Run: refusesExcluded,
	}}
}

func refusesExcluded(t *engine.T) {
	box := stage.Create(t)
	ids := box.Sandbox.GetExcludedCapabilities()
	if len(ids) == 0 {
		t.Skip(engine.NotDeclared, "excluded_capabilities of a plain sandbox")
	}
	values := stage.Values(t, box)
	for _, id := range ids {
		if !t.Has(id) {
			t.Errorf("the sandbox excludes %s, which the provider does not declare: want only ids that it declares", id)
			continue
		}
		for _, g := range insideGuards(id) {
			req, err := request.Using(g, values)
			if err != nil {
				t.Broken("no request uses %s: %v", g, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), t.Slowly(patience))
			err = request.Send(ctx, t.Conn(), g.Method, req)
			cancel()
			f := stage.Refused(t, g.String(), err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
			stage.NoEffect(t, g.String(), f)
			stage.Names(t, g.String(), f, fault.MetaCapability, id)
		}
	}
}

// insideGuards are the guards of a capability that are about a sandbox that
// exists.
func insideGuards(id string) []request.Guard {
	return slices.DeleteFunc(request.GuardsOf(request.Service()), func(g request.Guard) bool {
		return g.Capability != id || !request.NeedsSandbox(g.Method)
	})
}
