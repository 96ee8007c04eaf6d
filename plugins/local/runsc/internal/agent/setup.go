package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

const (
	pidsMax     = "/sys/fs/cgroup/pids/pids.max"
	capSysAdmin = 21
	prCapBSet   = 24 // PR_CAPBSET_DROP
	capVersion  = 0x20080522
)

// setup finishes a new guest and gives up the capability that this took, for this process and all it will ever start.
func (a *agent) setup(s *wire.Setup) error {
	if s == nil {
		return fmt.Errorf("set up guest: %w", syscall.EINVAL)
	}
	if s.MaxTasks > 0 {
		if err := limitTasks(s.MaxTasks); err != nil {
			return err
		}
	}
	if s.Layers != nil {
		if err := a.assemble(s.Layers); err != nil {
			return fmt.Errorf("put root together: %w", err)
		}
	}
	if err := prepareTmp(s); err != nil {
		return fmt.Errorf("prepare /tmp: %w", err)
	}
	for name, content := range s.Files {
		if err := placeFile(name, content); err != nil {
			return fmt.Errorf("make %q: %w", name, err)
		}
	}
	return dropSysAdmin()
}

// limitTasks sets the limit and puts its controls out of everybody's reach.
func limitTasks(most int64) error {
	if err := os.WriteFile(pidsMax, fmt.Append(nil, most), 0); err != nil {
		return fmt.Errorf("limit tasks: %w", err)
	}
	for _, dir := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("hide limits: %w", err)
		}
	}
	return nil
}

func prepareTmp(s *wire.Setup) error {
	if s.TmpMarker {
		return clearTmp(s.MakeTmp)
	}
	if !s.MakeTmp {
		return nil
	}
	// It is there already if something is mounted in it.
	if err := os.Mkdir("/tmp", 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod("/tmp", 0o777|os.ModeSticky)
}

func clearTmp(makeTmp bool) error {
	before, err := os.Stat("/tmp")
	if err != nil {
		return err
	}
	if err := syscall.Unmount(wire.TmpMarker, 0); err != nil {
		return err
	}
	if err := os.Remove(wire.TmpMarker); err != nil {
		return err
	}
	if makeTmp {
		return os.Chmod("/tmp", 0o777|os.ModeSticky)
	}
	return os.Chtimes("/tmp", before.ModTime(), before.ModTime())
}

// placeFile replaces whatever an image has at name, links included.
func placeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		return err
	}
	mark := time.Unix(wire.FilesTime, 0)
	return os.Chtimes(name, mark, mark)
}

// dropSysAdmin changes every thread, since capabilities belong to threads and any of them may be the one that forks.
func dropSysAdmin() error {
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prCapBSet, capSysAdmin, 0); errno != 0 {
		return fmt.Errorf("drop capability from the bounding set: %w", errno)
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
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return fmt.Errorf("drop capability: %w", errno)
	}
	return nil
}
