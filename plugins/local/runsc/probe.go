package runsc

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Enforcement says how a limit is held, the same for root and for an ordinary user.
type Enforcement struct {
	Limit string // a field of Limits
	By    string // what holds it
	Note  string // how exact it is
}

// Enforcements lists every limit that Create accepts.
func Enforcements() []Enforcement {
	return []Enforcement{
		{"CPUs", "processor affinity of every process of the sandbox", "whole processors only"},
		{"MemoryBytes", "a watch on the guest's memory file, every 0.5 ms near the limit", "the largest process is killed just below the " +
			"limit; the sandbox is killed at one and a quarter times the limit, or after half a second beyond it"},
		{"DiskBytes", "the size of the guest's overlay", "exact; writes fail with ENOSPC"},
		{"Pids", "the guest kernel's pids controller, and RLIMIT_NPROC per user", "the agent's threads count; root of the guest " +
			"can reach 32 more by changing its user"},
	}
}

// Probe tells whether sandboxes can run here, by starting a process in the namespaces of a shim. args must make this binary exit
// at once with status 0. The error is one sentence with what to do.
func Probe(ctx context.Context, args ...string) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("probe host: gVisor needs Linux, this is %s: use another provider", runtime.GOOS)
	}
	out, err := Shim(ctx, "", args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		for _, name := range []string{"kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"} {
			b, rerr := os.ReadFile("/proc/sys/" + name)
			if v := strings.TrimSpace(string(b)); rerr == nil && (v == "0") != strings.Contains(name, "apparmor") {
				return fmt.Errorf("probe host: user namespaces are forbidden by %s=%s: ask an administrator to change it, or run as root: %w",
					strings.ReplaceAll(name, "/", "."), v, err)
			}
		}
		return fmt.Errorf("probe host: an ordinary user cannot create namespaces here (user.max_user_namespaces, or a container's "+
			"seccomp profile): %w %s", err, out)
	}
	return fmt.Errorf("probe host: root cannot create namespaces here (CAP_SYS_ADMIN is missing?): %w %s", err, out)
}
