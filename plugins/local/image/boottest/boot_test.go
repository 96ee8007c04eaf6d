// Package boottest runs images of the store in real gVisor. It builds gVisor's
// command itself: the test binary may be linked to a C library (the race
// detector does that), and gVisor starts itself again where there is none.
package boottest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandbar-dev/sandbar/plugins/local/image"
)

func layer(t *testing.T, write func(add func(tar.Header, []byte))) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write(func(h tar.Header, content []byte) {
		h.Size, h.ModTime = int64(len(content)), time.Unix(1700000000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// build compiles a program of testdata that needs no C library.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// makeLayout writes a folder in OCI image layout with one image of two layers.
func makeLayout(t *testing.T, guest string, big []byte, nameLength int) string {
	t.Helper()
	program, err := os.ReadFile(guest)
	if err != nil {
		t.Fatal(err)
	}
	lower := layer(t, func(add func(tar.Header, []byte)) {
		add(tar.Header{Name: "guest", Typeflag: tar.TypeReg, Mode: 0o755}, program)
		add(tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 8}, nil)
		add(tar.Header{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 70000, Gid: 9}, []byte("content"))
		add(tar.Header{Name: "dir/gone", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("gone"))
		add(tar.Header{Name: "many/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		for n := range 2000 {
			add(tar.Header{Name: fmt.Sprintf("many/%0*d", nameLength, n), Typeflag: tar.TypeReg, Mode: 0o644}, nil)
		}
	})
	upper := layer(t, func(add func(tar.Header, []byte)) {
		add(tar.Header{Name: "dir/.wh.gone", Typeflag: tar.TypeReg}, nil)
		add(tar.Header{Name: "dir/hard", Typeflag: tar.TypeLink, Linkname: "dir/file"}, nil)
		add(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "dir/line\nbreak ☃"}, nil)
		add(tar.Header{Name: "dir/line\nbreak ☃", Typeflag: tar.TypeReg, Mode: 0o600}, big)
		add(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o622}, nil)
	})
	img, err := mutate.AppendLayers(empty.Image,
		static.NewLayer(lower, types.DockerUncompressedLayer), static.NewLayer(upper, types.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	path, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return "oci-layout:" + string(path)
}

// runsc calls gVisor's command.
func runsc(ctx context.Context, t *testing.T, program, state string, args ...string) (string, error) {
	t.Helper()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(ctx, program, append([]string{
		"--root=" + state, "--network=none", "--ignore-cgroups", "--platform=systrap", "--debug", "--debug-log=" + state + "/log/",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, log.String())
	}
	return out.String(), nil
}

// logs returns the warnings in gVisor's own logs.
func logs(state string) string {
	var warnings []string
	paths, _ := filepath.Glob(filepath.Join(state, "log", "*"))
	for _, path := range paths {
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "W") || strings.HasPrefix(line, "E") || strings.HasPrefix(line, "F") {
				warnings = append(warnings, filepath.Base(path)+": "+line)
			}
		}
	}
	return strings.Join(warnings, "")
}

func TestImageRunsInGvisor(t *testing.T) {
	guest, program := build(t, "guest"), build(t, "runsc")
	for name, length := range map[string]int{"small blocks": 4, "large blocks": 200} {
		t.Run(name, func(t *testing.T) { runImage(t, guest, program, length) })
	}
}

// runImage runs an image with a directory of names of the given length: long
// ones do not fit small blocks.
func runImage(t *testing.T, guest, program string, nameLength int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this bare use of gVisor needs root; package runsc's tests run images without")
	}
	big := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
	store, err := image.Open(t.Context(), filepath.Join(t.TempDir(), "store"), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	img, err := store.Pull(t.Context(), makeLayout(t, guest, big, nameLength), image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(img.RootfsPath)
	if err != nil {
		t.Fatal(err)
	}
	// The superblock says the size of blocks as a power of two.
	if large := before[1024+12] == 16; large != (nameLength == 200) {
		t.Fatalf("blocks of 2^%d bytes", before[1024+12])
	}
	bundle, one := t.TempDir(), fmt.Sprintf("/many/%0*d", nameLength, 1234)
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Annotations: img.Annotations("memory", 0),
		Process: &specs.Process{Cwd: "/", Args: []string{
			"/guest", "/dir", "/dir/file", "/dir/gone", "/dir/hard", "/link", "/dir/line\nbreak ☃", "/many", one, "/pipe",
		}, Capabilities: &specs.LinuxCapabilities{
			Bounding:  []string{"CAP_DAC_OVERRIDE", "CAP_FOWNER"},
			Effective: []string{"CAP_DAC_OVERRIDE", "CAP_FOWNER"},
			Permitted: []string{"CAP_DAC_OVERRIDE", "CAP_FOWNER"},
		}},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := runsc(ctx, t, program, state, "run", "--bundle="+bundle, "image-boot-test")
	if err != nil {
		_, deleting := runsc(context.WithoutCancel(ctx), t, program, state, "delete", "--force", "image-boot-test")
		t.Fatalf("%v\n%s\n%s", errors.Join(err, deleting), out, logs(state))
	}
	file := fmt.Sprintf("104755 70000:9 2 links mtime 1700000000 %x", sha256.Sum256([]byte("content")))
	// An overlay says 1 for the links of every directory.
	want := strings.Join([]string{
		"/dir: 41777 7:8 1 links mtime 1700000000 3 entries <nil>",
		"/dir/file: " + file,
		"/dir/gone: lstat /dir/gone: no such file or directory",
		"/dir/hard: " + file,
		"/link: 120777 0:0 1 links mtime 1700000000 dir/line\nbreak ☃",
		"/dir/line\nbreak ☃: " + fmt.Sprintf("100600 0:0 1 links mtime 1700000000 %x", sha256.Sum256(big)),
		"/many: 40755 0:0 1 links mtime 1700000000 2000 entries <nil>",
		one + ": " + fmt.Sprintf("100644 0:0 1 links mtime 1700000000 %x", sha256.Sum256(nil)),
		"/pipe: 10622 0:0 1 links mtime 1700000000",
		"write: ok",
	}, "\n") + "\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("what the guest saw (-want +got):\n%s", diff)
	}
	after, err := os.ReadFile(img.RootfsPath)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the guest changed the image: %v", err)
	}
}
