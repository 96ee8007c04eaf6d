// Package persistence holds the cases about what survives pause, resume,
// snapshot, restore and fork, word by word.
package persistence

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case {
	return slices.Concat(pauses(), livePauses(), snapshots(), snapshotObjects(), liveSnapshots(), forks(), liveForks())
}
