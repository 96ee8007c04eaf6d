// Package identity holds the cases about what a plugin says of itself, takes as settings, and finds wrong: Describe, Configure, Probe.
package identity

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat[[]engine.Case]() }
