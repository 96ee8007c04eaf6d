package runsc

import (
	"context"
	"fmt"

	abi "gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/syscalls"
	"gvisor.dev/gvisor/pkg/sentry/syscalls/linux"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// SetHostname gives the guest another host name, also in the files that name it as far as the guest left their lines as they were. Whoever
// asked before keeps the old answer.
func (s *Sandbox) SetHostname(ctx context.Context, hostname string) error {
	if hostname == "" {
		hostname = defaultHostname
	}
	if _, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpName, Hostname: hostname}, nil); err != nil {
		return fmt.Errorf("rename guest of %q: %w", s.cfg.ID, err)
	}
	return nil
}

// letInitNameHost lets process 1 of a guest, which is the agent, name the host. Every process of a guest has given up the capability
// that this takes on Linux, and keeping it in the agent would give it to whoever gets hold of the agent from inside; the name alone is
// nothing to gain. A guest that was restored or taken from a pool gets its name so: gVisor has no call for it from outside.
func letInitNameHost() {
	for _, table := range []*kernel.SyscallTable{linux.AMD64, linux.ARM64} {
		number, err := table.LookupNo("sethostname")
		if err != nil {
			continue // SetHostname fails, and says so
		}
		table.Table[number] = syscalls.Supported("sethostname", sethostname)
		table.Init()
	}
}

// sethostname is the system call. With process 1 the domain name follows, as it does when gVisor starts a guest.
func sethostname(t *kernel.Task, number uintptr, args arch.SyscallArguments) (uintptr, *kernel.SyscallControl, error) {
	if t.ThreadGroup() != t.Kernel().GlobalInit() {
		return linux.Sethostname(t, number, args)
	}
	return nameHost(t, args)
}

func nameHost(t *kernel.Task, args arch.SyscallArguments) (uintptr, *kernel.SyscallControl, error) {
	size := args[1].Int()
	if size < 0 || size > abi.UTSLen {
		return 0, nil, linuxerr.EINVAL
	}
	name := make([]byte, size)
	if _, err := t.CopyInBytes(args[0].Pointer(), name); err != nil {
		return 0, nil, err
	}
	host := t.UTSNamespace()
	host.SetHostName(string(name))
	host.SetDomainName(string(name))
	return 0, nil, nil
}
