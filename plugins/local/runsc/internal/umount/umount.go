// Package umount is one of gVisor's helper processes: it waits beside a process
// that gives up its rights, and takes /proc away when that process has no more
// use for it. Each sandbox starts two.
//
// gVisor's own does the same after it has initialised everything that a guest
// kernel needs, which costs more processor time than all the rest of the helper
// and delays the processes that wait for it. The language initialises packages
// by import path as soon as what they import is; this one imports the standard
// library only, so it comes before gVisor's.
package umount

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// self is the name that gVisor starts its helpers by.
const self = "/proc/self/exe"

func init() {
	if fd, dir, ok := parse(os.Args); ok {
		os.Exit(serve(fd, dir))
	}
}

// parse reads the one form of arguments that gVisor uses. Any other is left to
// gVisor's own helper.
func parse(args []string) (fd int, dir string, ok bool) {
	if len(args) != 4 || args[0] != self || args[1] != "umount" || !strings.HasPrefix(args[3], "/") {
		return 0, "", false
	}
	number, ok := strings.CutPrefix(args[2], "--sync-fd=")
	if !ok {
		return 0, "", false
	}
	fd, err := strconv.Atoi(number)
	return fd, args[3], err == nil && fd >= 0
}

// serve waits for the one byte on fd that says that dir may go. It returns an
// exit code; another than 0 ends the sandbox, and so does a byte that never
// came.
func serve(fd int, dir string) int {
	var b [1]byte
	for {
		n, err := syscall.Read(fd, b[:])
		switch {
		case err == syscall.EINTR:
			continue
		case n != 1:
			return 1
		}
		break
	}
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		return 1
	}
	return 0
}
