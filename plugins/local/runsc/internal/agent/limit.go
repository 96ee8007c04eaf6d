package agent

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

const (
	pidsMax     = "/sys/fs/cgroup/pids/pids.max"
	capSysAdmin = 21
	prCapBSet   = 24 // PR_CAPBSET_DROP
	capVersion  = 0x20080522
)

// limitAndExec sets the limit of tasks, puts its controls out of everybody's reach and starts the agent proper without the
// capability that took. Capabilities belong to threads; exec leaves only this one. It returns only with an error.
func limitAndExec(tasks string) error {
	runtime.LockOSThread()
	if err := os.WriteFile(pidsMax, []byte(tasks), 0); err != nil {
		return fmt.Errorf("limit tasks: %w", err)
	}
	for _, dir := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("hide limits: %w", err)
		}
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSet, capSysAdmin, 0); errno != 0 {
		return fmt.Errorf("drop capability: %w", errno)
	}
	header := struct {
		version uint32
		pid     int32
	}{capVersion, 0}
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return fmt.Errorf("read capabilities: %w", errno)
	}
	const bit = uint32(1) << capSysAdmin
	sets[0].effective &^= bit
	sets[0].permitted &^= bit
	sets[0].inheritable &^= bit
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return fmt.Errorf("drop capability: %w", errno)
	}
	return syscall.Exec(wire.AgentPath, []string{wire.AgentPath}, os.Environ())
}
