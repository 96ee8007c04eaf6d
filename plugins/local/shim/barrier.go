package shim

import (
	"fmt"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launch starts a shim without the wait that gVisor costs each of the seven
// processes behind a sandbox.
//
// At its start every program that links gVisor registers for process-wide memory
// barriers, which waits for all processors to pass a quiet point: 10 to 20 ms
// each time. Only gVisor's KVM platform ever uses what is registered, and these
// processes never run it. So a filter answers the registration at once, in the
// shim and in all it starts. Whoever used it all the same would get EPERM from
// the kernel, not a barrier that does nothing.
//
// The filter belongs to a thread of its own, which ends here, so that the plugin
// stays as it was.
func launch(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		if err := answerBarrierRegistration(); err != nil {
			done <- err
			return
		}
		done <- cmd.Start()
	}()
	return <-done
}

// Offsets in struct seccomp_data, the argument on machines that store the low
// half first.
const (
	seccompNumber   = 0
	seccompArch     = 4
	seccompFirstArg = 16
)

// registerPrivateExpedited is MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED.
const registerPrivateExpedited = 1 << 4

// auditArch are the machines whose numbering of system calls is known here.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// answerBarrierRegistration installs the filter on the calling thread.
func answerBarrierRegistration() error {
	arch, known := auditArch[runtime.GOARCH]
	if !known {
		return nil
	}
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: seccompArch},
		{Code: equal, K: arch, Jf: 5},
		{Code: load, K: seccompNumber},
		{Code: equal, K: unix.SYS_MEMBARRIER, Jf: 3},
		{Code: load, K: seccompFirstArg},
		{Code: equal, K: registerPrivateExpedited, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO}, // error 0: done
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Whoever may not administrate the machine must give up set-user-id programs,
	// which a shim has no use for.
	if !administrates() {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("forbid new privileges: %w", err)
		}
	}
	// The flag keeps the kernel from slowing down everything that has a filter.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install filter of system calls: %w", errno)
	}
	return nil
}

// administrates reports whether this thread has CAP_SYS_ADMIN.
func administrates() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}
