// Package capability holds the cases about that what is declared works and what is not is refused, in both directions, generated from the descriptors.
package capability

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat[[]engine.Case]() }
