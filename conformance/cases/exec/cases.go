// Package exec holds the cases about commands: ends, streams, input, signals,
// attaching again.
package exec

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(ends()) }
