// Package errors holds the cases about what every error must carry, and deadlines.
package errors

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat[[]engine.Case]() }
