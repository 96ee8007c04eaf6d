// Package lifecycle holds the cases about creating, getting, listing and
// deleting sandboxes, keys, lifetimes, usage, and what is left at the end.
package lifecycle

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(keys()) }
