// Package exec holds the cases about commands: how they are started, what they
// print and read, how they end, and attaching to them again.
package exec

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case {
	return slices.Concat(
		starts(), environments(), keys(), crowds(), outputs(), paces(), readers(), inputs(), signals(), ends(), deaths(), records(),
		attachments(), retention(), writers(),
	)
}
