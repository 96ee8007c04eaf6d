package capability

import (
	"maps"
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// use is the least that shows that a capability is there. What it is worth is
// what the other areas ask.
type use struct {
	run func(*engine.T)
	// kinds and phase are the case's.
	kinds []subject.Kind
	phase engine.Phase
}

// uses has one for each capability of the registry.
func uses() map[string]use {
	all := map[string]use{}
	for _, group := range []map[string]use{fileUses(), specUses(), egressUses(), execUses(), keepUses(), otherUses()} {
		maps.Copy(all, group)
	}
	return all
}

// works are the cases about capabilities that are declared.
func works() []engine.Case {
	all := uses()
	out := make([]engine.Case, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		out = append(out, engine.Case{
			ID: "cap/" + id + "/works", Title: "What " + id + " promises can be used.",
			Profile: engine.Core, Requirements: []string{"REQ-CAP-002"}, Needs: []string{id},
			Kinds: all[id].kinds, Phase: all[id].phase, Cost: 5,
			Run: all[id].run,
		})
	}
	return out
}

// created makes a sandbox with a changed spec, sees that commands run in it, and
// returns it.
func created(t *engine.T, change func(*providerv1.SandboxSpec)) *stage.Box {
	box := stage.Create(t, func(req *providerv1.CreateSandboxRequest) { change(req.GetSpec()) })
	box.Run("true").Code(0)
	return box
}

// spec is a use that makes a sandbox and looks at what the answer says.
func spec(change func(*providerv1.SandboxSpec), check func(*engine.T, *stage.Box)) use {
	return use{run: func(t *engine.T) {
		box := created(t, change)
		if check != nil {
			check(t, box)
		}
	}}
}

// same checks a value of an answer.
func same[V comparable](t *engine.T, what string, got, want V) {
	if got != want {
		t.Errorf("%s is %v: want %v", what, got, want)
	}
}
