package provider_test

import (
	"bytes"
	"regexp"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/provider"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func createRequest() *providerv1.CreateSandboxRequest {
	return &providerv1.CreateSandboxRequest{
		Operation: &providerv1.Operation{IdempotencyKey: "k1"},
		Identity:  &providerv1.Identity{SandboxId: "sbx_1", Owner: "brk_1", Labels: map[string]string{"a": "1", "b": "2", "c": "3"}},
		Spec: &providerv1.SandboxSpec{
			Image: &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "alpine"}},
			Env:   map[string]string{"X": "1"}, Ports: []uint32{80, 443},
			Resources: &providerv1.Resources{CpuMillis: 500}, Lifetime: durationpb.New(90),
			Mounts: []*providerv1.Mount{{Target: "/w", Mode: providerv1.MountMode_MOUNT_MODE_RO}},
		},
	}
}

func TestDigest(t *testing.T) {
	base := provider.Digest(createRequest())
	if len(base) != 32 || !bytes.Equal(base, provider.Digest(createRequest())) {
		t.Fatalf("digest %x is not stable", base)
	}
	for _, tc := range []struct {
		name   string
		change func(*providerv1.CreateSandboxRequest)
		same   bool
	}{
		{"another key", func(r *providerv1.CreateSandboxRequest) {
			r.Operation = &providerv1.Operation{IdempotencyKey: "k2", RequestDigest: base}
		}, true},
		{"no operation", func(r *providerv1.CreateSandboxRequest) { r.Operation = nil }, true},
		{"another id", func(r *providerv1.CreateSandboxRequest) { r.Identity.SandboxId = "sbx_2" }, true},
		{"another owner", func(r *providerv1.CreateSandboxRequest) { r.Identity.Owner = "brk_2" }, false},
		{"a label", func(r *providerv1.CreateSandboxRequest) { r.Identity.Labels["c"] = "4" }, false},
		{"key and value of a label swapped", func(r *providerv1.CreateSandboxRequest) {
			r.Identity.Labels = map[string]string{"1": "a", "b": "2", "c": "3"}
		}, false},
		{"image of another kind", func(r *providerv1.CreateSandboxRequest) {
			r.Spec.Image.Source = &providerv1.Image_Template{Template: "alpine"}
		}, false},
		{"order of ports", func(r *providerv1.CreateSandboxRequest) { r.Spec.Ports = []uint32{443, 80} }, false},
		{"a limit", func(r *providerv1.CreateSandboxRequest) { r.Spec.Resources.CpuMillis++ }, false},
		{"an empty message", func(r *providerv1.CreateSandboxRequest) { r.Spec.Resources.Gpu = &providerv1.Gpu{} }, false},
		{"a mode", func(r *providerv1.CreateSandboxRequest) { r.Spec.Mounts[0].Mode = providerv1.MountMode_MOUNT_MODE_RW }, false},
		{"lifetime", func(r *providerv1.CreateSandboxRequest) { r.Spec.Lifetime = durationpb.New(91) }, false},
		{"env moved to labels", func(r *providerv1.CreateSandboxRequest) { r.Spec.Env, r.Identity.Labels["X"] = nil, "1" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := createRequest()
			tc.change(r)
			if got := provider.Digest(r); bytes.Equal(got, base) != tc.same {
				t.Errorf("digest equal: %v, want %v", !tc.same, tc.same)
			}
		})
	}
}

func TestDigestKeepsSourcesAndDropsHandles(t *testing.T) {
	restore := &providerv1.RestoreSnapshotRequest{SnapshotId: "snp_1", Handle: &providerv1.Handle{Version: 1, Data: []byte("x")}}
	other := proto.CloneOf(restore)
	other.Handle = nil
	if !bytes.Equal(provider.Digest(restore), provider.Digest(other)) {
		t.Error("a handle is the plugin's memory and not part of what is asked")
	}
	other.SnapshotId = "snp_2"
	if bytes.Equal(provider.Digest(restore), provider.Digest(other)) {
		t.Error("restoring another snapshot is another request")
	}
	if !bytes.Equal(provider.Digest(&providerv1.CreateSnapshotRequest{SnapshotId: "snp_1"}), provider.Digest(&providerv1.CreateSnapshotRequest{SnapshotId: "snp_2"})) {
		t.Error("the id of what is made is not part of what is asked")
	}
}

func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		k := provider.NewKey()
		if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(k) || seen[k] {
			t.Fatalf("key %q", k)
		}
		seen[k] = true
	}
}
