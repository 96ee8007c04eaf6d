package runsc

import (
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// discard is gVisor's log sink in a shim: its library logs to one process-wide target, and nothing it says is needed here since
// every failure also comes back as an error.
type discard struct{}

func (discard) Emit(int, log.Level, time.Time, string, ...any) {} //nolint:forbidigo // gVisor's interface
