package runsc

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"gvisor.dev/gvisor/runsc/cli/maincli"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/agent"
	_ "github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/umount" // serves before main, in the process that is to be it
	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// self is this executable, also after it was replaced on disk; gVisor re-executes itself by the same name.
const self = "/proc/self/exe"

// Dispatch must be the first call of main. If the process was started as one of gVisor's own processes or as the agent of a
// guest it serves as that and never returns; otherwise it returns at once.
func Dispatch() {
	if os.Args[0] == wire.AgentPath {
		agent.Main()
	}
	dispatchRuntime()
}

// dispatchRuntime is Dispatch for gVisor's own processes.
func dispatchRuntime() {
	switch {
	case strings.HasPrefix(os.Args[0], "runsc-"), // runsc-sandbox, runsc-gofer
		os.Args[0] == self && len(os.Args) > 1 && os.Args[1] == "umount":
		startUndisturbed()
		letInitNameHost()
		maincli.Main()
		os.Exit(0)
	}
}

// Shim returns a command that runs binary, or this one if it is empty, with args as a shim: in namespaces of its own, in a session of
// its own, with an empty environment. It outlives its parent. The caller sets standard streams and extra files, starts it and waits for it.
//
// The process starts with the mounts of its parent; Enter must make them private before anything else.
//
// The binary must be statically linked: gVisor executes it again where no loader is.
func Shim(ctx context.Context, binary string, args ...string) *exec.Cmd {
	if binary == "" {
		binary = self
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}
