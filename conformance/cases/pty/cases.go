// Package pty holds the cases about commands at a terminal.
package pty

import (
	"slices"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Cases returns the area's cases.
func Cases() []engine.Case { return slices.Concat(terminals(), sizes(), keyboards()) }
