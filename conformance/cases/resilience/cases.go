// Package resilience holds the cases about the plugin as a process: how it starts and ends, what it survives, and what is
// found again after it was killed; and about what a sandbox has inside.
package resilience

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(starts(), ends(), burdens(), kills(), guest()) }

// processes are the targets that are processes.
var processes = []subject.Kind{subject.Binary}
