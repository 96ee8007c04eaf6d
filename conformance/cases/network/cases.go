// Package network holds the cases about ports, tunnels and what leaves.
package network

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// own are the targets whose flows the suite can watch: a broker decides about them
// itself.
var own = []subject.Kind{subject.Binary, subject.InProcess}

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(tunnels(), ends(), egress(), captures()) }
