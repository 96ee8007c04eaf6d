// Package files holds the cases about files, archives, differences, mounts,
// volumes and limits.
package files

import (
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case {
	return slices.Concat(contents(), paths(), folders(), archives(), diffs(), volumes(), hostMounts(), limits())
}

// patience is for what a guest does in milliseconds.
const patience = 10 * time.Second
