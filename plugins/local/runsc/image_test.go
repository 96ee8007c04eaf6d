package runsc_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sandbar-dev/sandbar/plugins/local/image"
	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// makeImage pulls an image of one program from a registry of its own into work, for uid, and returns its root file system.
func makeImage(tb testing.TB, work string, uid int) string {
	tb.Helper()
	tool := filepath.Join(tb.TempDir(), "tool")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", tool, "./testdata/tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build tool: %v\n%s", err, out)
	}
	program, err := os.ReadFile(tool)
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/tools:1")
	if err != nil {
		tb.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(imageLayer(tb, program), types.DockerUncompressedLayer))
	if err != nil {
		tb.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(work, fmt.Sprint("images-", uid))
	store, err := image.Open(tb.Context(), dir, image.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	pulled, err := store.Pull(tb.Context(), ref.String(), image.PullOptions{})
	if err := errors.Join(err, store.Close()); err != nil {
		tb.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(p, uid, uid)) })
	if err != nil && os.Geteuid() == 0 {
		tb.Fatal(err)
	}
	return pulled.RootfsPath
}

// imageLayer has no /tmp, /proc, /etc/hosts or /.sandbar: the runtime must do without.
func imageLayer(tb testing.TB, program []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.Size, h.ModTime = int64(len(content)), time.Unix(1700000000, 0)
		if err := errors.Join(w.WriteHeader(&h), func() error { _, err := io.WriteString(w, content); return err }()); err != nil {
			tb.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "bin/tool", Typeflag: tar.TypeReg, Mode: 0o755}, string(program))
	add(tar.Header{Name: "bin/suid-tool", Typeflag: tar.TypeReg, Mode: 0o4755}, string(program))
	add(tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0::/root:/bin/tool\napp:x:77:78::/home/app:/bin/tool\n")
	add(tar.Header{Name: "etc/hostname", Typeflag: tar.TypeSymlink, Linkname: "/data/owned"}, "")
	add(tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "data/owned", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 77, Gid: 78}, "from the image")
	add(tar.Header{Name: "data/gone", Typeflag: tar.TypeReg, Mode: 0o644}, "gone soon")
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestImage(t *testing.T) {
	work := workDir(t)
	for who, uid := range who(t) {
		t.Run(who, func(t *testing.T) {
			rootfs, saved := makeImage(t, work, uid), filepath.Join(work, "saved-"+who)
			t.Log(inShim(t, work, uid, "image", rootfs, saved))
			for range 2 {
				t.Log(inShim(t, work, uid, "image-again", rootfs, saved))
			}
		})
	}
}

func tool(args ...string) runsc.Command {
	return runsc.Command{Argv: append([]string{"tool"}, args...)}
}

// says runs the image's program and compares what it says.
func says(ctx context.Context, sb *runsc.Sandbox, want string, cmd runsc.Command) error {
	got, exit, err := run(ctx, sb, cmd)
	if err != nil || got != want {
		return fmt.Errorf("%v: got %q (%+v) %w, want %q", cmd.Argv, got, exit, err, want)
	}
	return nil
}

// useImage has everything around the image that a sandbox can have. args[0] is the image.
func (e *env) useImage() error {
	e.cfg.Root, e.cfg.Image = "", e.args[0]
	e.cfg.Files = rootfs.Files("guest")
	e.cfg.Limits = runsc.Limits{DiskBytes: 32 << 20, Pids: 100, MemoryBytes: 256 << 20}
	e.cfg.Disk = e.dir + "/disk"
	if err := errors.Join(os.MkdirAll(e.cfg.Disk, 0o700), os.MkdirAll(e.dir+"/host/dir", 0o755),
		os.WriteFile(e.dir+"/host/file", []byte("host file"), 0o644)); err != nil {
		return err
	}
	e.cfg.Mounts = []runsc.Mount{
		{Source: e.dir + "/host/dir", Target: "/not/there/dir"}, {Source: e.dir + "/host/file", Target: "/not/there/file", ReadOnly: true},
	}
	return nil
}

func imageScenario(ctx context.Context, e *env) error {
	if err := e.useImage(); err != nil {
		return err
	}
	began := time.Now()
	sb, err := runsc.Create(ctx, e.cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, "create", time.Since(began))
	err = errors.Join(
		says(ctx, sb, "from the image", tool("cat", "/data/owned")),
		says(ctx, sb, "100640 77:78 1 1700000000", tool("stat", "/data/owned")),
		says(ctx, sb, "guest\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\tguest", tool("cat", "/etc/hostname", "/etc/hosts")),
		says(ctx, sb, "", tool("cat", "/etc/resolv.conf")),
		says(ctx, sb, "host file", tool("cat", "/not/there/file")),
		says(ctx, sb, "", tool("write", "/not/there/dir/new", "for the host")),
		says(ctx, sb, "77 77 78", runsc.Command{Argv: []string{"tool", "id"}, User: "app"}),
		says(ctx, sb, "77 0 78", runsc.Command{Argv: []string{"suid-tool", "id"}, User: "app"}),
		says(ctx, sb, "", runsc.Command{Argv: []string{"tool", "write", "/tmp/mine", "x"}, User: "app"}),
		says(ctx, sb, "remove /tmp/mine: operation not permitted", runsc.Command{Argv: []string{"tool", "remove", "/tmp/mine"}, User: "99"}),
		says(ctx, sb, "", tool("remove", "/data/gone")),
		sb.Mkdir(ctx, "/data/made/deep", runsc.FileOptions{Recursive: true}),
		sb.WriteFile(ctx, "/data/owned", strings.NewReader("changed"), runsc.FileOptions{}),
		tmpIsLimited(ctx, sb), imageDiff(ctx, sb), lowerWorks(sb),
	)
	if err != nil {
		return err
	}
	if b, err := os.ReadFile(e.dir + "/host/dir/new"); err != nil || string(b) != "for the host" {
		return fmt.Errorf("what the guest wrote to a mount: %q %w", b, err)
	}
	ex, err := sb.Start(ctx, runsc.Command{ID: "counter", Argv: []string{"tool", "count"}})
	if err != nil {
		return err
	}
	if _, err := ex.Stdout.Read(make([]byte, 2)); err != nil {
		return err
	}
	return sb.Checkpoint(ctx, e.args[1], false, nil)
}

// tmpIsLimited: /tmp is on the same limited overlay as all else.
func tmpIsLimited(ctx context.Context, sb *runsc.Sandbox) error {
	out, _, err := run(ctx, sb, tool("fill", "/tmp/big"))
	var n int
	if _, serr := fmt.Sscan(out, &n); err != nil || serr != nil || n < 20 || n > 32 || !strings.Contains(out, "no space") {
		return fmt.Errorf("fill /tmp: %q %w", out, err)
	}
	return sb.Remove(ctx, "/tmp/big", false)
}

func imageDiff(ctx context.Context, sb *runsc.Sandbox) error {
	return differs(ctx, sb, "-/data/gone", "+/data/made", "+/data/made/deep", "*/data/owned", "+/tmp", "+/tmp/mine")
}

// differs compares the changes of a guest, marked with a sign for their kind.
func differs(ctx context.Context, sb *runsc.Sandbox, want ...string) error {
	changes, err := sb.Changes(ctx)
	if err != nil {
		return err
	}
	var got []string
	for _, c := range changes {
		got = append(got, string(" +*-"[c.Kind])+c.Path)
		if (c.Header == nil) != (c.Kind == runsc.Deleted) {
			return fmt.Errorf("change %+v", c)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("changes: got %q, want %q", got, want)
	}
	return nil
}

func lowerWorks(sb *runsc.Sandbox) error {
	lower := sb.Lower()
	mode, err := lower.Lstat("/bin/suid-tool")
	if err != nil || mode != 0o755|fs.ModeSetuid {
		return fmt.Errorf("lower mode: %v %w", mode, err)
	}
	names, err := lower.Names("/data")
	if err != nil || !slices.Equal(names, []string{"gone", "owned"}) {
		return fmt.Errorf("lower names: %q %w", names, err)
	}
	for _, missing := range []string{"/data/made", "/data/owned/below", "/../nope"} {
		if _, err := lower.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lower %q: %w", missing, err)
		}
	}
	return nil
}

// imageAgainScenario goes on with the saved guest. args as imageScenario's.
func imageAgainScenario(ctx context.Context, e *env) error {
	if err := e.useImage(); err != nil {
		return err
	}
	sb, err := e.restored(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		says(ctx, sb, "changed", tool("cat", "/data/owned")),
		says(ctx, sb, "open /data/gone: no such file or directory", tool("cat", "/data/gone")),
		says(ctx, sb, "77 0 78", runsc.Command{Argv: []string{"suid-tool", "id"}, User: "app"}),
		says(ctx, sb, "host file", tool("cat", "/not/there/file")),
		tmpIsLimited(ctx, sb), lowerWorks(sb), sb.Loaded(), sb.Close(ctx),
	)
}
