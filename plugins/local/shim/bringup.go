package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// bringUp enters the namespaces, builds the root file system and starts the
// guest, or restores it and its commands. On failure there is no guest.
func bringUp(ctx context.Context, l *life, boot *Boot, commands *exec.Table) (*runsc.Sandbox, error) {
	for _, dir := range []string{l.private, filepath.Join(l.dir, diskName)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make folder of sandbox: %w", err)
		}
	}
	if err := runsc.Enter(l.private); err != nil {
		return nil, err
	}
	cfg, err := config(l, boot)
	if err != nil {
		return nil, err
	}
	if boot.Checkpoint == "" {
		return runsc.Create(ctx, cfg)
	}
	return restore(ctx, cfg, l, commands, boot.Checkpoint)
}

// guestID names the one guest of a shim to gVisor, and shows in its cgroups. It is
// not the sandbox's id, which a guest that is kept ready does not have yet.
const guestID = "guest"

// config translates the record into the runtime's terms, and builds the root
// file system on the way.
func config(l *life, boot *Boot) (runsc.Config, error) {
	spec := l.rec.Spec
	root := l.rootDir()
	var binds []rootfs.Bind
	var mounts []runsc.Mount
	for _, m := range spec.GetMounts() {
		source := m.GetHostPath()
		if m.GetVolume() != "" {
			source = boot.VolumeData[m.GetVolume()]
		}
		if m.GetMode() == providerv1.MountMode_MOUNT_MODE_OVERLAY {
			binds = append(binds, rootfs.Bind{Source: source, Target: m.GetTarget()})
			continue
		}
		mounts = append(mounts, runsc.Mount{
			Source: source, Target: m.GetTarget(), ReadOnly: m.GetMode() == providerv1.MountMode_MOUNT_MODE_RO,
		})
	}
	cfg := runsc.Config{
		ID: guestID, Dir: l.private, Disk: filepath.Join(l.dir, diskName),
		Hostname: hostname(l.rec), Mounts: mounts,
	}
	var err error
	if boot.Root.Image != "" {
		cfg.Image, cfg.Files = boot.Root.Image, rootfs.Files(cfg.Hostname)
		cfg.Copies, err = copies(filepath.Join(l.private, copiesName), binds)
	} else {
		cfg.Root = root
		err = rootfs.Host(root, rootfs.Options{Hostname: cfg.Hostname, Binds: binds})
	}
	if err != nil {
		return runsc.Config{}, err
	}
	if cfg.Agent, err = agent(l, boot); err != nil {
		return runsc.Config{}, err
	}
	cfg.Limits, err = limits(spec.GetResources())
	return cfg, err
}

// copiesName is the folder, in the private one, of what an image's guest sees copy-on-write.
const copiesName = "copies"

func copies(dir string, binds []rootfs.Bind) (runsc.Copies, error) {
	out := runsc.Copies{Dir: dir}
	var sources []string
	for _, b := range binds {
		sources, out.Targets = append(sources, b.Source), append(out.Targets, b.Target)
	}
	return out, rootfs.Copies(dir, sources)
}

// cpuMillis is one processor.
const cpuMillis = 1000

func limits(r *providerv1.Resources) (runsc.Limits, error) {
	if r.GetCpuMillis()%cpuMillis != 0 {
		return runsc.Limits{}, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
			"spec.resources.cpu_millis is %d: this provider limits whole processors, want a multiple of %d",
			r.GetCpuMillis(), cpuMillis).With("field", "spec.resources.cpu_millis")
	}
	return runsc.Limits{
		CPUs: int(r.GetCpuMillis() / cpuMillis), MemoryBytes: r.GetMemoryBytes(), DiskBytes: r.GetDiskBytes(), Pids: r.GetPids(),
	}, nil
}
