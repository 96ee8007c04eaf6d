package runsc

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// tableEnd is the lowest descriptor that ReserveDescriptors takes. gVisor puts a guest's standard streams at 256 and after.
const tableEnd = 511

// ReserveDescriptors makes room in this process's table of open files, once and for all: it keeps one high descriptor open, and every
// process that this one starts begins with a table of that size.
//
// A table that grows in a process with threads waits until no processor can still be looking at the old one, some 10 ms. gVisor makes
// its table grow in the middle of each start. So the process that starts shims calls this, which waits once, and Enter does the same
// in every shim, whose table is large from the beginning then.
var ReserveDescriptors = sync.OnceValue(func() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("open null device: %w", err)
	}
	defer null.Close()
	_, err = unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, tableEnd)
	if errors.Is(err, unix.EINVAL) {
		return nil // whoever may open so few files pays with time
	}
	if err != nil {
		return fmt.Errorf("make room for descriptors: %w", err)
	}
	return nil
})
