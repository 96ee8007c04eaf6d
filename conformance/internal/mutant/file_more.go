package mutant

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func archiveMutants() []Mutant {
	return []Mutant{
		{
			ID: "archive/roundtrip~modes", Kills: "archive/roundtrip", Bug: "set-uid bits are lost",
			Driver: files(fileBugs{upload: uploaded(func(h *tar.Header) bool { h.Mode &= 0o777; return true })}),
		},
		{
			ID: "archive/several~full-paths", Kills: "archive/several", Bug: "entries have their full paths", Also: []string{"archive/roundtrip"},
			Driver: files(fileBugs{download: func(h *tar.Header) { h.Name = "tmp/s/" + h.Name }}),
		},
		{
			ID: "archive/escape~skips", Kills: "archive/escape", Bug: "entries that would land outside are left out, and the call succeeds",
			Driver: files(fileBugs{upload: uploaded(func(h *tar.Header) bool {
				return !strings.Contains(h.Name, "..") && !strings.HasPrefix(h.Name, "/")
			})}),
		},
		{
			ID: "archive/cut~accepted", Kills: "archive/cut", Bug: "an archive that is cut is unpacked as far as it came",
			Also: []string{"archive/escape"},
			Driver: files(fileBugs{upload: func(d *fake.Driver, ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) (*providerv1.UploadArchiveResponse, error) {
				resp, err := d.UploadArchive(ctx, open, in)
				if err != nil {
					return &providerv1.UploadArchiveResponse{}, nil //nolint:nilerr // this is the bug
				}
				return resp, nil
			}}),
		},
		{
			ID: "archive/owners~ignored", Kills: "archive/owners", Bug: "owners are never kept",
			Driver: files(fileBugs{upload: uploaded(func(h *tar.Header) bool { h.Uid, h.Gid = 0, 0; return true })}),
		},
		{
			ID: "fs/diff~twice", Kills: "fs/diff", Bug: "every change is listed twice",
			Driver: files(fileBugs{twice: true}),
		},
	}
}

// created makes a hook that changes what a sandbox is asked to be.
func created(change func(*providerv1.SandboxSpec)) func() map[string]hook {
	return func() map[string]hook {
		return map[string]hook{"CreateSandbox": before(func(_ context.Context, _ client, req *providerv1.CreateSandboxRequest) {
			if req.GetSpec() != nil {
				change(req.GetSpec())
			}
		})}
	}
}

// writable makes mounts of a mode write through.
func writable(from providerv1.MountMode) func() map[string]hook {
	return created(func(spec *providerv1.SandboxSpec) {
		for _, m := range spec.GetMounts() {
			if m.GetMode() == from {
				m.Mode = rw
			}
		}
	})
}

const (
	ro      = providerv1.MountMode_MOUNT_MODE_RO
	rw      = providerv1.MountMode_MOUNT_MODE_RW
	overlay = providerv1.MountMode_MOUNT_MODE_OVERLAY
)

func volumeMutants() []Mutant {
	return []Mutant{
		{
			ID: "volume/outlives~emptied", Kills: "volume/outlives", Bug: "a volume is emptied when a sandbox that mounts it goes",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"DeleteSandbox": before(func(ctx context.Context, c client, req *providerv1.DeleteSandboxRequest) {
					inside(ctx, c, req.GetSandbox().GetSandboxId(), "rm -r /data/*")
				})}
			}),
		},
		{
			ID: "volume/shared~writable", Kills: "volume/shared", Bug: "a read-only mount can be written to",
			Wrap: wrapping(writable(ro)),
		},
		{
			ID: "volume/in-use~pretends", Kills: "volume/in-use", Bug: "deleting a volume that is mounted is said to have succeeded",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"DeleteVolume": func(_ context.Context, _ client, req, _ proto.Message, next func(proto.Message) error) error {
					err := next(req)
					if err != nil && fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE) {
						return nil
					}
					return err
				}}
			}),
		},
		{
			ID: "volume/overlay~through", Kills: "volume/overlay", Bug: "writes to an overlay reach the volume",
			Wrap: wrapping(writable(overlay)),
		},
		{
			ID: "volume/listed~labels", Kills: "volume/listed", Bug: "volumes lose their labels",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"CreateVolume": before(func(_ context.Context, _ client, req *providerv1.CreateVolumeRequest) { req.Labels = nil })}
			}),
		},
	}
}

func mountMutants() []Mutant {
	return []Mutant{
		{
			ID: "mount/host-modes~writable", Kills: "mount/host-modes", Provider: "local", Bug: "a read-only mount can be written to",
			Wrap: wrapping(writable(ro)),
		},
		{
			ID: "mount/host-overlay~through", Kills: "mount/host-overlay", Provider: "local", Bug: "writes to an overlay reach the machine's folder",
			Wrap: wrapping(writable(overlay)),
		},
		{
			ID: "mount/host-missing~left-out", Kills: "mount/host-missing", Provider: "local", Bug: "a folder that does not exist is left out silently",
			Wrap: wrapping(created(func(spec *providerv1.SandboxSpec) {
				var there []*providerv1.Mount
				for _, m := range spec.GetMounts() {
					if _, err := os.Stat(m.GetHostPath()); err == nil {
						there = append(there, m)
					}
				}
				spec.Mounts = there
			})),
		},
	}
}

func resourceMutants() []Mutant {
	unlimited := func(id, kills, bug string, change func(*providerv1.Resources), also ...string) Mutant {
		return Mutant{ID: id, Kills: kills, Bug: bug, Also: also, Wrap: wrapping(created(func(spec *providerv1.SandboxSpec) {
			if spec.GetResources() != nil {
				change(spec.GetResources())
			}
		}))}
	}
	start := time.Now()
	return []Mutant{
		unlimited("limits/memory~none", "limits/memory", "the memory limit does not hold", func(r *providerv1.Resources) { r.MemoryBytes = 0 }, "limits/told"),
		unlimited("limits/disk~none", "limits/disk", "the disk limit does not hold", func(r *providerv1.Resources) { r.DiskBytes = 0 }),
		unlimited("limits/pids~none", "limits/pids", "the process limit does not hold", func(r *providerv1.Resources) { r.Pids = 0 }),
		{
			ID: "limits/cpu~eight", Kills: "limits/cpu", Bug: "a sandbox of one processor uses eight",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"GetUsage": after(func(_ context.Context, _ client, _ *providerv1.GetUsageRequest, resp *providerv1.GetUsageResponse) {
					resp.GetUsage().CpuNanos = proto.Int64(8 * int64(time.Since(start)))
				})}
			}),
		},
		{
			ID: "limits/told~untold", Kills: "limits/told", Bug: "a sandbox does not tell its limits",
			Driver: func(d *fake.Driver) sdk.Driver { return &untoldLimits{d} },
		},
	}
}

// untoldLimits does not tell what a sandbox got.
type untoldLimits struct{ *fake.Driver }

func (d *untoldLimits) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.GetSandbox(ctx, req)
	if err != nil {
		return nil, err
	}
	sb = clone(sb)
	sb.Resources = nil
	return sb, nil
}
