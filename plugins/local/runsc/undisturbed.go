package runsc

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// startHeap is how large the heap of one of gVisor's processes may grow while it starts before the collector runs all the same.
	startHeap = 64 << 20
	// startTime is when the collector begins its usual work. A guest runs after a tenth of it.
	startTime = 2 * time.Second
	// usualPercent is the collector's usual work, which is the language's default.
	usualPercent = 100
	// goferProcessors is the least number of goroutines that run at once in the gofer.
	goferProcessors = 4
)

// startUndisturbed has one of gVisor's processes start without what only pays later.
//
// The gofer may run more goroutines than the machine has processors. Each of its connections waits in a system call that the scheduler
// takes for a short one; with two of them on two processors, whatever became ready would wait for the scheduler to notice, up to 10 ms.
func startUndisturbed() {
	if os.Args[0] == "runsc-gofer" && runtime.GOMAXPROCS(0) < goferProcessors {
		runtime.GOMAXPROCS(goferProcessors)
	}
	CollectLater()
}

// CollectLater keeps this process from collecting garbage in its first two seconds: the collector's first rounds, over a heap of a few
// megabytes that mostly stays, would take a tenth of the processor time of a start.
func CollectLater() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(startHeap)
	// Should the process replace itself, as gVisor's do, the timer ends with it and the next program begins anew.
	time.AfterFunc(startTime, func() {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(usualPercent)
	})
}
