package agent

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Package syscall's own way of starting a process resets some sixty signal handlers in the child and waits for it by a pipe. In a
// guest each system call costs several microseconds, and that was half of the time a command took to start. Here the agent has no
// handlers that a child would have to reset (see calmSignals), and the child says what failed in the memory it shares.

// child is a process to be. Everything it needs is made before, because it may neither allocate nor return.
type child struct {
	path *byte
	argv []*byte
	envv []*byte
	dir  *byte // nil is the agent's own

	stdio    [3]rawFile // above 2, closed by an execve
	terminal bool       // stdio[0] becomes the controlling terminal

	switchUser bool
	uid, gid   uint32
	groups     []uint32

	maxTasks [2]uint64 // RLIMIT_NPROC, soft and hard; 0 leaves it

	// step and errno are how the child failed, if it did.
	step  step
	errno syscall.Errno
}

// step is what a child was doing.
type step int

const (
	stepNone step = iota
	stepSession
	stepLimit
	stepUser
	stepDir
	stepStdio
	stepExec
)

// start runs the child until it has executed its program or failed, which step tells. An error means that there is no child.
// A child that failed is a zombie, for reap to collect.
func (c *child) start() (pid int, err error) {
	n, errno := c.fork()
	runtime.KeepAlive(c)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// vfork returns twice: 0 in a child that has the memory and the stack of the caller, which stands still until the child executes a
// program or ends.
func vfork() (pid uintptr, errno syscall.Errno)

// fork returns in the parent only. After vfork it must not do anything in the parent but return, and in the child not call anything
// but raw system calls: the child is no thread that the runtime knows of. It is not preempted in between, because only function
// prologues do that (the agent runs with asyncpreemptoff) and raw system calls have none.
//
//go:noinline
//go:norace
//go:nocheckptr
func (c *child) fork() (pid uintptr, errno syscall.Errno) {
	pid, errno = vfork()
	if pid != 0 || errno != 0 {
		return pid, errno
	}

	c.step = stepSession
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); errno != 0 {
		goto failed
	}
	if c.terminal {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(c.stdio[0]), syscall.TIOCSCTTY, 1); errno != 0 {
			goto failed
		}
	}
	c.step = stepLimit
	if c.maxTasks[0] != 0 {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, rlimitNproc, uintptr(unsafe.Pointer(&c.maxTasks)), 0, 0, 0)
		if errno != 0 {
			goto failed
		}
	}
	c.step = stepUser
	if c.switchUser {
		_, _, errno = syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(c.groups)), uintptr(unsafe.Pointer(unsafe.SliceData(c.groups))), 0)
		if errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SETGID, uintptr(c.gid), 0, 0); errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SETUID, uintptr(c.uid), 0, 0); errno != 0 {
			goto failed
		}
	}
	c.step = stepDir
	if c.dir != nil {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0); errno != 0 {
			goto failed
		}
	}
	c.step = stepStdio
	if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.stdio[0]), 0, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.stdio[1]), 1, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.stdio[2]), 2, 0); errno != 0 {
		goto failed
	}
	c.step = stepExec
	_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)),
		uintptr(unsafe.Pointer(unsafe.SliceData(c.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(c.envv))))
failed:
	c.errno = errno
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 127, 0, 0)
	}
}

// calmSignals gives the signals back their default meaning for which the Go runtime's handlers do more than return: a child of vfork has
// them until it executes its program, and in it they would act on the agent. The signals that end the agent by default are those for
// which the runtime ends it as well. SIGCHLD no longer interrupts what the agent waits in, and SIGURG is for preemption, which is off.
func calmSignals() {
	var byDefault [4]uint64 // struct sigaction
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
		syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGSYS,
	} {
		// It cannot fail for these, and without it all works but for a moment's race.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
}
