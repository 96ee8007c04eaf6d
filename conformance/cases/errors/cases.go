// Package errors holds the cases about what every error must carry, and about
// calls that end before their work: by deadline, by cancellation, by size.
package errors

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(carried(), said(), deadlines(), sizes()) }

// own are the targets where the plugin's own errors are seen. A broker adds its
// words to them.
var own = []subject.Kind{subject.Binary, subject.InProcess}
