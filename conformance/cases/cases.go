// Package cases is the catalogue: every case of the suite, by area. A case
// belongs to the area that its id starts with; to add one, write it in that
// area's package, name the requirement it checks, and add the mutant it kills to
// package mutant.
package cases

import (
	"cmp"
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/cases/capability"
	"github.com/sandbar-dev/sandbar/conformance/cases/errors"
	"github.com/sandbar-dev/sandbar/conformance/cases/exec"
	"github.com/sandbar-dev/sandbar/conformance/cases/files"
	"github.com/sandbar-dev/sandbar/conformance/cases/identity"
	"github.com/sandbar-dev/sandbar/conformance/cases/lifecycle"
	"github.com/sandbar-dev/sandbar/conformance/cases/network"
	"github.com/sandbar-dev/sandbar/conformance/cases/persistence"
	"github.com/sandbar-dev/sandbar/conformance/cases/pty"
	"github.com/sandbar-dev/sandbar/conformance/cases/resilience"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// All returns every case, sorted by id. The caller owns the slice.
func All() []engine.Case {
	all := slices.Concat(
		identity.Cases(), capability.Cases(), lifecycle.Cases(), errors.Cases(), exec.Cases(), pty.Cases(),
		files.Cases(), persistence.Cases(), network.Cases(), resilience.Cases(),
	)
	slices.SortFunc(all, func(a, b engine.Case) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
