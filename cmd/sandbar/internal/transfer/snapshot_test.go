package transfer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestSnapshot writes a sandbox's files to a snapshot and another's from it.
func TestSnapshot(t *testing.T) {
	w := newWorld(t)
	sb := w.add(source, tree())
	sb.Spec = &providerv1.SandboxSpec{
		Image: &providerv1.Image{Source: &providerv1.Image_Template{Template: "theirs"}}, Region: "eu", Workdir: "/w",
		Env: map[string]string{"TOKEN": "s3cret"}, Mounts: []*providerv1.Mount{{Target: "/data"}},
	}
	name := filepath.Join(t.TempDir(), "s.tar")
	src := &transfer.Source{Files: w.client, Sandbox: sb, Paths: named, Running: 2}
	snap, manifest, err := src.Save(t.Context(), name, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	l, err := portable.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if diff := cmp.Diff(snap, l.Snapshot); diff != "" || l.Manifest != manifest {
		t.Errorf("read %s: %s", l.Manifest, diff)
	}
	var what []string
	for _, left := range snap.Left {
		what = append(what, left.What)
	}
	if diff := cmp.Diff([]string{"memory", "processes", "attributes", "elsewhere", "image", "region", "mounts", "environment"}, what); diff != "" {
		t.Error(diff)
	}
	req, err := l.Snapshot.Request()
	if err != nil || req.GetSpec().GetWorkdir() != "/w" || req.GetSpec().GetRegion() != "" || req.GetSpec().GetImage() != nil {
		t.Errorf("to create: %v, %v", req, err)
	}
	w.add("sbx_2", map[string]string{})
	if left, err := transfer.Load(t.Context(), w.client, l, "sbx_2", nil); err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	if diff := cmp.Diff(carried(), w.live()["sbx_2"]); diff != "" {
		t.Error(diff)
	}
	w.half = true
	w.add("sbx_3", map[string]string{})
	if _, err := transfer.Load(t.Context(), w.client, l, "sbx_3", nil); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL) {
		t.Errorf("a provider that forgets: %v", err)
	}
	// One that cannot be read leaves nothing.
	src.Paths = []string{"/nowhere"}
	dir := t.TempDir()
	if _, _, err := src.Save(t.Context(), filepath.Join(dir, "s"), time.Now()); err == nil {
		t.Error("saved what is not there")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestStrip(t *testing.T) {
	request := func() *brokerv1.CreateSandboxRequest {
		return transfer.Request(&brokerv1.Sandbox{
			Labels: map[string]string{"a": "1", transfer.MovedFrom: "sbx_0"},
			Spec: &providerv1.SandboxSpec{
				Region: "eu", Hostname: "h", Mounts: []*providerv1.Mount{{Target: "/data"}}, Resources: &providerv1.Resources{CpuMillis: 500},
				Image: &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "debian:12"}},
			},
		})
	}
	if _, err := transfer.Strip(request(), []string{"region"}); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE) || !strings.Contains(err.Error(), "--without mounts") {
		t.Errorf("mounts: %v", err)
	}
	req := request()
	left, err := transfer.Strip(req, []string{"region", "mounts", "size", "ports"})
	if err != nil || len(left) != 3 {
		t.Fatalf("left %v, %v", left, err)
	}
	spec := req.GetSpec()
	if spec.GetRegion() != "" || spec.GetMounts() != nil || spec.GetResources() != nil || spec.GetHostname() != "h" || spec.GetImage().GetOci() != "debian:12" {
		t.Errorf("what is left is %v", spec)
	}
	if diff := cmp.Diff(map[string]string{"a": "1"}, req.GetLabels()); diff != "" {
		t.Error(diff)
	}
}
