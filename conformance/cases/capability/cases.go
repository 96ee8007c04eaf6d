// Package capability holds the cases about that what is declared works and what is
// not is refused. The refusals are generated from the schema's guards, so that a
// field that is added has its case at once; the uses are written, and a capability
// without one fails a test.
package capability

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(refused(), works(), limits(), excluded()) }
