package local_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// pushImage serves an image with one program, a user, a folder and an
// environment, under the tag "1", and returns its reference and its digest.
func pushImage(t *testing.T, content string) (ref, digest string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref = strings.TrimPrefix(server.URL, "http://") + "/tools:1"
	return ref, push(t, ref, content)
}

func push(t *testing.T, ref, content string) (digest string) {
	t.Helper()
	program, err := os.ReadFile(toolFile())
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range []struct {
		h       tar.Header
		content []byte
	}{
		{tar.Header{Name: "bin/tool", Mode: 0o755}, program},
		{tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/root:/bin/tool\napp:x:77:78::/home/app:/bin/tool\n")},
		{tar.Header{Name: "home/app/file", Mode: 0o600, Uid: 77, Gid: 78}, []byte(content)},
	} {
		f.h.Size, f.h.Typeflag = int64(len(f.content)), tar.TypeReg
		_, err := func() (int, error) { return 0, w.WriteHeader(&f.h) }()
		if _, werr := w.Write(f.content); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer))
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Env: []string{"PATH=/bin", "FROM=image"}, User: "app", WorkingDir: "/home/app"})
	}
	parsed, perr := name.ParseReference(ref)
	if err := errors.Join(err, perr); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

func ociSpec(ref string) *providerv1.SandboxSpec {
	return &providerv1.SandboxSpec{Image: &providerv1.Image{Source: &providerv1.Image_Oci{Oci: ref}}, Env: map[string]string{"OF": "sandbox"}}
}

// tool runs the image's program.
func (p *plugin) tool(r *providerv1.SandboxRef, args ...string) result {
	p.t.Helper()
	return p.exec(r, &providerv1.ExecSpec{Argv: append([]string{"tool"}, args...)}, nil)
}

func (p *plugin) wantOutput(r *providerv1.SandboxRef, want string, args ...string) {
	p.t.Helper()
	if got := p.tool(r, args...); got.stdout != want || got.exit.GetCode() != 0 {
		p.t.Errorf("tool %q: %q %q %v, want %q", args, got.stdout, got.stderr, got.exit, want)
	}
}

// leases counts who holds images.
func (p *plugin) leases() int {
	p.t.Helper()
	held, err := filepath.Glob(filepath.Join(p.state, "images", "leases", "*", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(held)
}

func TestImageDefaults(t *testing.T) {
	p := start(t)
	ref, digest := pushImage(t, "first")
	r := p.create(ociSpec(ref))
	sb, err := p.get(r)
	if err != nil || sb.GetImageDigest() != digest {
		t.Errorf("digest %q %v, want %q", sb.GetImageDigest(), err, digest)
	}
	p.wantOutput(r, "first", "cat", "file")
	p.wantOutput(r, "77 77 78\n", "id")
	want := "FROM=image\nHOME=/home/app\nLC_CTYPE=C.UTF-8\nOF=sandbox\nPATH=/bin\n"
	if diff := cmp.Diff(want, sortedLines(p.tool(r, "env").stdout)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	p.delete(r)
	if n := p.leases(); n != 0 {
		t.Errorf("%d leases are left", n)
	}
}

// TestImageSurvives: what was made from an image goes on with it although the
// tag stands for another one now, the registry is gone and the plugin was
// replaced.
func TestImageSurvives(t *testing.T) {
	p := start(t)
	ref, digest := pushImage(t, "first")
	r := p.create(ociSpec(ref))
	p.wantOutput(r, "", "write", "/tmp/new", "kept")
	if other := push(t, ref, "second"); other == digest {
		t.Fatal("the images are the same")
	}
	if _, err := p.client.PauseSandbox(p.ctx(), &providerv1.PauseSandboxRequest{Sandbox: r}); err != nil {
		t.Fatal(err)
	}
	snap := &providerv1.CreateSnapshotRequest{Sandbox: r, Operation: operation(), SnapshotId: "snp_" + rand.Text()}
	if _, err := p.client.CreateSnapshot(p.ctx(), snap); err != nil {
		t.Fatal(err)
	}
	p.restart()
	if n := p.leases(); n != 2 {
		t.Errorf("%d leases for a sandbox and a snapshot", n)
	}
	if _, err := p.client.ResumeSandbox(p.ctx(), &providerv1.ResumeSandboxRequest{Sandbox: r}); err != nil {
		t.Fatal(err)
	}
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: r, Operation: operation(), Identities: []*providerv1.Identity{identity(), identity()},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.delete(r)
	restored, err := p.client.RestoreSnapshot(p.ctx(), &providerv1.RestoreSnapshotRequest{
		SnapshotId: snap.GetSnapshotId(), Operation: operation(), Identity: identity(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sb := range append(fork.GetSandboxes(), restored.GetSandbox()) {
		if sb.GetImageDigest() != digest {
			t.Errorf("digest %q", sb.GetImageDigest())
		}
		p.wantOutput(reference(sb), "firstkept", "cat", "file", "/tmp/new")
		p.delete(reference(sb))
	}
	if _, err := p.client.DeleteSnapshot(p.ctx(), &providerv1.DeleteSnapshotRequest{SnapshotId: snap.GetSnapshotId()}); err != nil {
		t.Fatal(err)
	}
	if n := p.leases(); n != 0 {
		t.Errorf("%d leases are left", n)
	}
}

// TestImageWithProject: a project folder, copy-on-write, in an image. What is
// changed there is told and taken out, and goes with the sandbox wherever it
// goes; the folder stays as it is.
func TestImageWithProject(t *testing.T) {
	p := start(t)
	project := t.TempDir()
	for name, content := range map[string]string{"main": "old", "gone": "old", "kept": "kept"} {
		if err := os.WriteFile(filepath.Join(project, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ref, _ := pushImage(t, "first")
	spec := ociSpec(ref)
	spec.User, spec.Workdir = "root", "/work/project"
	spec.Mounts = []*providerv1.Mount{{
		Source: &providerv1.Mount_HostPath{HostPath: project}, Target: "/work/project", Mode: providerv1.MountMode_MOUNT_MODE_OVERLAY,
	}}
	r := p.create(spec)
	p.wantOutput(r, "oldfirst", "cat", "main", "/home/app/file")
	p.wantOutput(r, "", "write", "main", "new")
	p.wantOutput(r, "", "write", "added", "added")
	p.wantOutput(r, "", "remove", "gone")
	p.wantOutput(r, "", "remove", "/home/app/file")
	p.wantProject(r)
	snap := &providerv1.CreateSnapshotRequest{Sandbox: r, Operation: operation(), SnapshotId: "snp_" + rand.Text()}
	if _, err := p.client.CreateSnapshot(p.ctx(), snap); err != nil {
		t.Fatal(err)
	}
	p.pause(r)
	p.restart()
	p.resume(r)
	fork, err := p.client.ForkSandbox(p.ctx(), &providerv1.ForkSandboxRequest{
		Sandbox: r, Operation: operation(), Identities: []*providerv1.Identity{identity(), identity()},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.wantOutput(r, "", "write", "kept", "the original's")
	p.delete(r)
	restored, err := p.client.RestoreSnapshot(p.ctx(), &providerv1.RestoreSnapshotRequest{
		SnapshotId: snap.GetSnapshotId(), Operation: operation(), Identity: identity(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sb := range append(fork.GetSandboxes(), restored.GetSandbox()) {
		p.wantProject(reference(sb))
		p.delete(reference(sb))
	}
	if _, err := p.client.DeleteSnapshot(p.ctx(), &providerv1.DeleteSnapshotRequest{SnapshotId: snap.GetSnapshotId()}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(project, "main")); string(got) != "old" {
		t.Errorf("the project's own file: %q %v", got, err)
	}
	if names, err := filepath.Glob(filepath.Join(project, "*")); len(names) != 3 {
		t.Errorf("the project's own files: %q %v", names, err)
	}
}

// wantProject checks what is told of a sandbox whose project was changed, and
// what is taken out.
func (p *plugin) wantProject(r *providerv1.SandboxRef) {
	p.t.Helper()
	want := []string{"A /work/project/added", "D /work/project/gone", "M /work/project/main"}
	if diff := cmp.Diff(want, p.diff(r, "/work/project")); diff != "" {
		p.t.Errorf("difference of the project (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"D /home/app/file", "A /tmp"}, p.diff(r, "")); diff != "" {
		p.t.Errorf("difference of the root (-want +got):\n%s", diff)
	}
	stream, err := p.client.DownloadArchive(p.ctx(), &providerv1.DownloadArchiveRequest{Sandbox: r, Paths: []string{"/work/project"}})
	if err != nil {
		p.t.Fatal(err)
	}
	var archive bytes.Buffer
	for err == nil {
		var m *providerv1.DownloadArchiveResponse
		m, err = stream.Recv()
		archive.Write(m.GetData())
	}
	got := map[string]string{}
	tr := tar.NewReader(&archive)
	for h, terr := tr.Next(); terr == nil; h, terr = tr.Next() {
		content, rerr := io.ReadAll(tr)
		if rerr != nil {
			p.t.Error(rerr)
		}
		if h.Typeflag == tar.TypeReg {
			got[h.Name] = string(content)
		}
	}
	if diff := cmp.Diff(map[string]string{"project/added": "added", "project/kept": "kept", "project/main": "new"}, got); diff != "" {
		p.t.Errorf("taken out, %v (-want +got):\n%s", err, diff)
	}
}

func TestImageRefusals(t *testing.T) {
	p := start(t)
	ref, _ := pushImage(t, "first")
	for name, c := range map[string]struct {
		spec *providerv1.SandboxSpec
		want providerv1.ErrorReason
	}{
		"missing":   {ociSpec(ref + "-not"), providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND},
		"malformed": {ociSpec("No Such Name"), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID},
	} {
		_, err := p.client.CreateSandbox(p.ctx(), &providerv1.CreateSandboxRequest{Operation: operation(), Identity: identity(), Spec: c.spec})
		if e := fault.From(err); e.Reason != c.want || e.Effect != providerv1.Effect_EFFECT_NONE {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if n := p.leases() + len(p.list()); n != 0 {
		t.Errorf("%d leases and sandboxes are left", n)
	}
}

func reference(sb *providerv1.Sandbox) *providerv1.SandboxRef { return ref(sb) }

func sortedLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
