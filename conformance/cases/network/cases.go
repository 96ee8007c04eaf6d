// Package network holds the cases about ports, tunnels and what leaves.
package network

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(tunnels(), ends(), egress()) }
