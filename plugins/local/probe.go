package local

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Probe implements sdk.Driver. Each check tries the thing itself where that is
// cheap: settings of the kernel only say what somebody meant.
func (d *Driver) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	_, conf, err := d.open()
	if err != nil {
		return nil, err
	}
	out := &providerv1.ProbeResponse{Ready: true}
	for _, check := range []func(context.Context, config) *providerv1.ProbeCheck{
		checkPlatform, checkNamespaces, checkStateFolder, checkMemory, checkLimits,
	} {
		c := check(ctx, conf)
		out.Checks = append(out.Checks, c)
		if c.GetStatus() == providerv1.ProbeStatus_PROBE_STATUS_FAILED {
			out.Ready = false
		}
	}
	if c := d.checkPool(); c != nil {
		out.Checks = append(out.Checks, c)
	}
	return out, nil
}

func okCheck(name, detail string) *providerv1.ProbeCheck {
	return &providerv1.ProbeCheck{Name: name, Status: providerv1.ProbeStatus_PROBE_STATUS_OK, Detail: detail}
}

func failedCheck(name, detail, remedy string) *providerv1.ProbeCheck {
	return &providerv1.ProbeCheck{Name: name, Status: providerv1.ProbeStatus_PROBE_STATUS_FAILED, Detail: detail, Remedy: remedy}
}

func checkPlatform(context.Context, config) *providerv1.ProbeCheck {
	switch runtime.GOARCH {
	case "amd64", "arm64":
		return okCheck("platform", "linux/"+runtime.GOARCH+", gVisor platform systrap")
	}
	return failedCheck("platform", "linux/"+runtime.GOARCH, "use a machine with amd64 or arm64")
}

// checkNamespaces makes the namespaces that a sandbox needs, around a process
// that ends at once.
func checkNamespaces(ctx context.Context, _ config) *providerv1.ProbeCheck {
	const name = "namespaces"
	if err := runsc.Probe(ctx, ProbeCommand); err != nil {
		return failedCheck(name, err.Error(), "allow user namespaces to this user, or run as root; "+
			"inside a container, give it CAP_SYS_ADMIN or a seccomp profile that allows unshare")
	}
	how := "as root"
	if os.Geteuid() != 0 {
		how = "in a user namespace, as an ordinary user"
	}
	return okCheck(name, "mount, pid, network, IPC and UTS namespaces "+how)
}

// ProbeCommand is the argument with which the provider's binary ends at once.
const ProbeCommand = "probe-namespaces"

func checkStateFolder(_ context.Context, conf config) *providerv1.ProbeCheck {
	const name = "state-folder"
	var st syscall.Statfs_t
	if err := syscall.Statfs(conf.stateDir, &st); err != nil {
		return failedCheck(name, err.Error(), "make "+conf.stateDir+" readable and writable for this user")
	}
	free := int64(st.Bavail) * st.Bsize
	detail := conf.stateDir + ", " + mebibytes(free) + " free"
	const low = 1 << 30
	if free < low {
		return &providerv1.ProbeCheck{
			Name: name, Status: providerv1.ProbeStatus_PROBE_STATUS_DEGRADED, Detail: detail,
			Remedy: "free some space: sandboxes write there, and pausing one writes its memory there",
		}
	}
	return okCheck(name, detail)
}

func checkMemory(context.Context, config) *providerv1.ProbeCheck {
	const name = "memory"
	available := meminfo("MemAvailable")
	if available == 0 {
		return &providerv1.ProbeCheck{
			Name: name, Status: providerv1.ProbeStatus_PROBE_STATUS_DEGRADED, Detail: "the amount is unknown",
			Remedy: "make /proc/meminfo readable",
		}
	}
	return okCheck(name, mebibytes(available)+" available")
}

func checkLimits(context.Context, config) *providerv1.ProbeCheck {
	var held []string
	for _, l := range runsc.Enforcements() {
		held = append(held, l.Limit+" by "+l.By+" ("+l.Note+")")
	}
	return okCheck("limits", strings.Join(held, "; "))
}

func mebibytes(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }

// meminfo returns one line of /proc/meminfo in bytes, or 0.
func meminfo(key string) int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// halfOfMemory is the default limit: one sandbox must not take the machine down.
func halfOfMemory() int64 {
	const least = 256 << 20
	return max(meminfo("MemTotal")/2, least)
}
