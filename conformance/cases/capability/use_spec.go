package capability

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Limits that every provider which has any can give.
const (
	someMemory = 512 << 20
	someDisk   = 1 << 30
	someCPU    = 1000
	somePIDs   = 256
)

// specUses are the uses of what a sandbox can be made with.
func specUses() map[string]use {
	resources := func(r *providerv1.Resources) func(*providerv1.SandboxSpec) {
		return func(s *providerv1.SandboxSpec) { s.Resources = r }
	}
	return map[string]use{
		"compute.cpu": spec(resources(&providerv1.Resources{CpuMillis: someCPU}), func(t *engine.T, b *stage.Box) {
			same(t, "resources.cpu_millis", b.Sandbox.GetResources().GetCpuMillis(), someCPU)
		}),
		"compute.memory": spec(resources(&providerv1.Resources{MemoryBytes: someMemory}), func(t *engine.T, b *stage.Box) {
			same(t, "resources.memory_bytes", b.Sandbox.GetResources().GetMemoryBytes(), someMemory)
		}),
		"compute.disk": spec(resources(&providerv1.Resources{DiskBytes: someDisk}), func(t *engine.T, b *stage.Box) {
			same(t, "resources.disk_bytes", b.Sandbox.GetResources().GetDiskBytes(), someDisk)
		}),
		"compute.pids": spec(resources(&providerv1.Resources{Pids: somePIDs}), func(t *engine.T, b *stage.Box) {
			same(t, "resources.pids", b.Sandbox.GetResources().GetPids(), somePIDs)
		}),
		"compute.gpu": spec(resources(&providerv1.Resources{Gpu: &providerv1.Gpu{Count: 1}}), func(t *engine.T, b *stage.Box) {
			same(t, "resources.gpu.count", b.Sandbox.GetResources().GetGpu().GetCount(), 1)
		}),
		"image.host": spec(func(s *providerv1.SandboxSpec) {
			s.Image = &providerv1.Image{Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}}}
		}, nil),
		"image.oci": {run: func(t *engine.T) {
			image := t.Input("image")
			created(t, func(s *providerv1.SandboxSpec) {
				s.Image = &providerv1.Image{Source: &providerv1.Image_Oci{Oci: image}}
			})
		}},
		"image.template": {run: func(t *engine.T) {
			template := t.Input("template")
			created(t, func(s *providerv1.SandboxSpec) {
				s.Image = &providerv1.Image{Source: &providerv1.Image_Template{Template: template}}
			})
		}},
		"placement.region": {run: func(t *engine.T) {
			region := t.Input("region")
			box := created(t, func(s *providerv1.SandboxSpec) { s.Region = region })
			same(t, "region", box.Sandbox.GetRegion(), region)
		}},
		"port.declare": spec(func(s *providerv1.SandboxSpec) { s.Ports = []uint32{8080} }, nil),
		"sandbox.hostname": spec(func(s *providerv1.SandboxSpec) { s.Hostname = "suite-host" }, func(t *engine.T, b *stage.Box) {
			same(t, "what uname -n says", strings.TrimSpace(string(b.Run("uname", "-n").Code(0).Stdout)), "suite-host")
		}),
		"lifetime.native": spec(func(s *providerv1.SandboxSpec) { s.Lifetime = durationpb.New(someLife) }, func(t *engine.T, b *stage.Box) {
			// It begins with the request at the earliest, which the broker counts from.
			const exact = time.Second
			got := b.Sandbox.GetExpiresAt().AsTime().Sub(b.Sandbox.GetCreatedAt().AsTime())
			if got < someLife-b.Took-exact || got > someLife+exact {
				t.Errorf("expires_at - created_at is %s of a sandbox that was made in %s: want %s", got, b.Took, someLife)
			}
		}),
		"lifetime.extend": {run: extend},
		"mount.host":      {run: mountHost, kinds: own},
		"mount.overlay":   {run: mountOverlay},
		"mount.volume":    {run: mountVolume},
	}
}

const someLife = 10 * time.Minute

func extend(t *engine.T) {
	box := created(t, func(s *providerv1.SandboxSpec) { s.Lifetime = durationpb.New(someLife) })
	later := box.Sandbox.GetExpiresAt().AsTime().Add(someLife).Truncate(time.Second)
	resp, err := box.Client().ExtendLifetime(t.Context(), &providerv1.ExtendLifetimeRequest{Sandbox: box.Ref, ExpiresAt: timestamppb.New(later)})
	stage.OK(t, "ExtendLifetime", err)
	same(t, "expires_at", resp.GetSandbox().GetExpiresAt().AsTime(), later)
}

// target is where things are mounted.
const target = "/mnt/suite"

func mounted(mode providerv1.MountMode, volume, hostPath string) func(*providerv1.SandboxSpec) {
	m := &providerv1.Mount{Target: target, Mode: mode, Source: &providerv1.Mount_Volume{Volume: volume}}
	if hostPath != "" {
		m.Source = &providerv1.Mount_HostPath{HostPath: hostPath}
	}
	return func(s *providerv1.SandboxSpec) { s.Mounts = []*providerv1.Mount{m} }
}

// hostFolder makes a folder of this machine, on which a plugin that mounts
// folders runs, too.
func hostFolder(t *engine.T) string {
	dir, err := os.MkdirTemp("", "suite")
	if err == nil {
		t.Cleanup(removing(dir))
		err = os.WriteFile(filepath.Join(dir, "file"), []byte("from outside"), 0o644)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Broken("a folder to mount could not be made: %v", err)
	}
	return dir
}

func mountHost(t *engine.T) {
	box := created(t, mounted(providerv1.MountMode_MOUNT_MODE_RO, "", hostFolder(t)))
	box.Run("cat", target+"/file").Code(0).Out("from outside")
}

// mountOverlay writes over a source and finds the source as it was.
func mountOverlay(t *engine.T) {
	if t.Has("mount.host") && t.Target().Kind() != "broker" {
		dir := hostFolder(t)
		box := created(t, mounted(providerv1.MountMode_MOUNT_MODE_OVERLAY, "", dir))
		write(box, target+"/new", "inside")
		if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
			t.Errorf("what was written over a mount of mode OVERLAY is in its source")
		}
		return
	}
	volume := newVolume(t)
	box := created(t, mounted(providerv1.MountMode_MOUNT_MODE_OVERLAY, volume, ""))
	write(box, target+"/new", "inside")
	box.Delete()
	other := created(t, mounted(providerv1.MountMode_MOUNT_MODE_RO, volume, ""))
	if out := other.Run("cat", target+"/new"); out.Exit.GetCode() == 0 {
		t.Errorf("what was written over a mount of mode OVERLAY is in its source")
	}
}

func mountVolume(t *engine.T) {
	volume := newVolume(t)
	box := created(t, mounted(providerv1.MountMode_MOUNT_MODE_RW, volume, ""))
	write(box, target+"/file", "kept")
	box.Delete()
	other := created(t, mounted(providerv1.MountMode_MOUNT_MODE_RO, volume, ""))
	other.Run("cat", target+"/file").Code(0).Out("kept")
}

func newVolume(t *engine.T) string {
	name := "suite-" + strings.TrimPrefix(stage.NewID("v"), "v_")
	_, err := t.Client().CreateVolume(t.Context(), &providerv1.CreateVolumeRequest{Owner: t.Owner(), Name: name})
	stage.OK(t, "CreateVolume", err)
	return name
}
