// Package files holds the cases about files, archives, differences, mounts, volumes and limits.
package files

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat[[]engine.Case]() }
