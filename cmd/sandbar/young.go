package main

import (
	"runtime/debug"
	"time"
)

const (
	// young is longer than most commands live.
	young = 2 * time.Second
	// youngHeap is where a young process begins to collect after all.
	youngHeap = 64 << 20
)

// collectLater keeps a young process from collecting garbage. The collector's
// first round comes at 4 MiB, which a command that talks to the broker reaches
// just before it ends: a tenth of its processor time, for memory that the end
// gives back anyway. What lives longer collects as usual.
func collectLater() {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, youngHeap))
	time.AfterFunc(young, func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}
