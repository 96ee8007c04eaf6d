// Package resilience holds the cases about the plugin as a process: killed, starved, flooded, and found again.
package resilience

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat[[]engine.Case]() }
