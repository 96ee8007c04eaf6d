package guard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

func TestUses(t *testing.T) {
	for _, tc := range []struct {
		name string
		msg  proto.Message
		want []guard.Need
	}{
		{name: "nil", msg: (*providerv1.CreateSandboxRequest)(nil)},
		{name: "plain", msg: &providerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Workdir: "/x"}}},
		{
			name: "nested fields, oneof and enum in a list",
			msg: &providerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
				Image:     &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian"}},
				Resources: &providerv1.Resources{Gpu: &providerv1.Gpu{Count: 1}},
				Mounts: []*providerv1.Mount{{
					Target: "/w", Mode: providerv1.MountMode_MOUNT_MODE_OVERLAY,
					Source: &providerv1.Mount_HostPath{HostPath: "/src"},
				}},
			}},
			want: []guard.Need{
				{Capability: "image.oci", Field: "spec.image.oci"},
				{Capability: "compute.gpu", Field: "spec.resources.gpu"},
				{Capability: "mount.host", Field: "spec.mounts[0].host_path"},
				{Capability: "mount.overlay", Field: "spec.mounts[0].mode"},
			},
		},
		{
			name: "keeps",
			msg:  &providerv1.ForkSandboxRequest{Minimum: &providerv1.Keeps{Disk: true, Processes: true}},
			want: []guard.Need{
				{Capability: "fork.disk", Field: "minimum.disk"},
				{Capability: "fork.processes", Field: "minimum.processes"},
			},
		},
		{name: "stream frame", msg: &providerv1.AttachExecRequest{Input: &providerv1.ExecInput{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, guard.Uses(tc.msg)); diff != "" {
				t.Errorf("Uses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMethod(t *testing.T) {
	if got := guard.Method(providerv1.ProviderService_ForkSandbox_FullMethodName); got != "fork" {
		t.Errorf("ForkSandbox requires %q, want fork", got)
	}
	if got := guard.Method(providerv1.ProviderService_CreateSandbox_FullMethodName); got != "" {
		t.Errorf("CreateSandbox requires %q, want none", got)
	}
	if got := guard.Method("/no.such/Method"); got != "" {
		t.Errorf("unknown method requires %q", got)
	}
}

// TestRegistryMatchesDescriptors holds the registry and the guards together:
// every guard names a registered capability, and every registered capability is
// either guarded somewhere or listed here with the promise that no field shows.
func TestRegistryMatchesDescriptors(t *testing.T) {
	promises := map[string]string{
		"exec.reattach":      "what AttachExec does after a restart",
		"snapshot.disk":      "guarded through keeps_area",
		"snapshot.memory":    "guarded through keeps_area",
		"snapshot.processes": "guarded through keeps_area",
		"pause.disk":         "guarded through keeps_area",
		"pause.memory":       "guarded through keeps_area",
		"pause.processes":    "guarded through keeps_area",
		"fork.disk":          "guarded through keeps_area",
		"fork.memory":        "guarded through keeps_area",
		"fork.processes":     "guarded through keeps_area",
	}
	used := collectGuards()
	for id := range used {
		if !guard.Known(id) {
			t.Errorf("guard %q is not in capabilities.txt", id)
		}
	}
	ids := make([]string, 0)
	for _, c := range guard.Registry() {
		ids = append(ids, c.ID)
		if !used[c.ID] && promises[c.ID] == "" {
			t.Errorf("capability %q guards nothing", c.ID)
		}
		for _, n := range c.Needs {
			if !guard.Known(n) {
				t.Errorf("capability %q needs unknown %q", c.ID, n)
			}
		}
	}
	if !slices.IsSorted(ids) {
		t.Errorf("capabilities.txt is not sorted:\n%s", strings.Join(ids, "\n"))
	}
}

func collectGuards() map[string]bool {
	used := map[string]bool{}
	file := providerv1.File_sandbar_provider_v1_provider_proto
	methods := file.Services().Get(0).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		used[guard.Method("/"+string(m.Parent().FullName())+"/"+string(m.Name()))] = true
		collectMessage(m.Input(), used, map[protoreflect.FullName]bool{})
	}
	delete(used, "")
	return used
}

func collectMessage(md protoreflect.MessageDescriptor, used map[string]bool, seen map[protoreflect.FullName]bool) {
	if seen[md.FullName()] {
		return
	}
	seen[md.FullName()] = true
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		used[guard.FieldRequires(fd)] = true
		if fd.Enum() != nil {
			for j := range fd.Enum().Values().Len() {
				used[guard.ValueRequires(fd.Enum().Values().Get(j))] = true
			}
		}
		if fd.Message() != nil {
			collectMessage(fd.Message(), used, seen)
		}
	}
}
