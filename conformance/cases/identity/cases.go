// Package identity holds the cases about what a plugin says of itself, what it
// takes as settings, what it finds wrong, and how it stops taking work: Describe,
// Configure, Probe, Drain.
package identity

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// Cases returns the area's cases.
func Cases() []engine.Case {
	return slices.Concat(describe(), configure(), secrets(), probe(), drain())
}

// own are the targets that a case can configure and drain: a broker does that for
// its plugins, and tells nobody.
var own = []subject.Kind{subject.Binary, subject.InProcess}
