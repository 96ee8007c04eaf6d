package runsc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
)

// Enter finishes the namespaces of a shim: no mount propagates out, /proc shows the new pid namespace, the loopback interface is
// up and a private memory file system covers dir, an existing directory. dir and what is mounted below it vanish with the process.
//
// Enter points os.Stdin, os.Stdout and os.Stderr (the variables, not the descriptors) at the null device, because gVisor hands
// whatever they hold to the guest. A caller that logs keeps the files it wants beforehand.
func Enter(dir string) error {
	if os.Getpid() != 1 {
		return errors.New("enter namespaces: not process 1: start the shim with Shim")
	}
	signal.Ignore(syscall.SIGPIPE)
	if err := ReserveDescriptors(); err != nil {
		return fmt.Errorf("enter namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sandbar", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		return fmt.Errorf("mount private directory %q: %w", dir, err)
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open null device: %w", err)
	}
	os.Stdin, os.Stdout, os.Stderr = null, null, null //nolint:forbidigo // nothing is written: gVisor is kept from handing them on
	log.SetTarget(discard{})                          //nolint:forbidigo // gVisor's logger, silenced
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
