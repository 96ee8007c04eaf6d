package runsc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// TestImageCopies: copy-on-write mounts over an image.
func TestImageCopies(t *testing.T) {
	work := workDir(t)
	for who, uid := range who(t) {
		t.Run(who, func(t *testing.T) {
			rootfs, saved := makeImage(t, work, uid), filepath.Join(work, "copies-"+who)
			t.Log(inShim(t, work, uid, "copies", rootfs, saved))
			for range 2 {
				t.Log(inShim(t, work, uid, "copies-again", rootfs, saved))
			}
		})
	}
}

// useCopies is useImage with copy-on-write mounts: of a folder, one inside of that, and of a file.
func (e *env) useCopies() error {
	if err := e.useImage(); err != nil {
		return err
	}
	project := filepath.Dir(e.dir) + "/project-" + filepath.Base(e.args[1])
	err := errors.Join(os.MkdirAll(project+"/sub", 0o755), os.WriteFile(project+"/kept", []byte("kept"), 0o600),
		os.WriteFile(project+"/sub/gone", []byte("gone soon"), 0o644), os.WriteFile(project+"/edited", []byte("before"), 0o644),
		os.MkdirAll(project+"/dir/deep", 0o755))
	e.cfg.Copies = runsc.Copies{Dir: e.dir + "/copies", Targets: []string{"/data/project", "/data/project/dir", "/etc/edited"}}
	// A mount with its point in a copy, and one in the image where a link would be followed.
	e.cfg.Mounts = append(e.cfg.Mounts, runsc.Mount{Source: e.dir + "/host/dir", Target: "/data/project/new/rw"})
	return errors.Join(err, rootfs.Copies(e.cfg.Copies.Dir, []string{project, project + "/dir", project + "/edited"}))
}

func copiesScenario(ctx context.Context, e *env) error {
	if err := e.useCopies(); err != nil {
		return err
	}
	began := time.Now()
	sb, err := runsc.Create(ctx, e.cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, "create", time.Since(began))
	err = errors.Join(
		differs(ctx, sb, "+/tmp"),
		says(ctx, sb, "from the image", tool("cat", "/data/owned")),
		says(ctx, sb, "100640 77:78 1 1700000000", tool("stat", "/data/owned")),
		says(ctx, sb, "guest\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\tguest", tool("cat", "/etc/hostname", "/etc/hosts")),
		says(ctx, sb, "host file", tool("cat", "/not/there/file")),
		says(ctx, sb, "open /not/there/file: read-only file system", tool("write", "/not/there/file", "x")),
		says(ctx, sb, "", tool("write", "/data/project/new/rw/new", "for the host")),
		says(ctx, sb, "77 0 78", runsc.Command{Argv: []string{"suid-tool", "id"}, User: "app"}),
		says(ctx, sb, "", runsc.Command{Argv: []string{"tool", "write", "/tmp/mine", "x"}, User: "app"}),
		says(ctx, sb, "kept", tool("cat", "/data/project/kept")),
		says(ctx, sb, "before", tool("cat", "/etc/edited")),
		says(ctx, sb, "", tool("write", "/etc/edited", "after")),
		says(ctx, sb, "", tool("write", "/data/project/edited", "in the project")),
		says(ctx, sb, "", tool("write", "/data/project/added", "x")),
		says(ctx, sb, "", tool("write", "/data/project/dir/deep/added", "x")),
		says(ctx, sb, "", tool("remove", "/data/project/sub/gone")),
		says(ctx, sb, "", tool("remove", "/data/gone")),
		sb.Mkdir(ctx, "/data/made/deep", runsc.FileOptions{Recursive: true}),
		sb.WriteFile(ctx, "/data/owned", strings.NewReader("changed"), runsc.FileOptions{}),
		sb.Remove(ctx, "/bin/suid-tool", false),
		copiesShareTheDisk(ctx, sb), copiesDiffer(ctx, sb),
	)
	if err != nil {
		return err
	}
	ex, err := sb.Start(ctx, runsc.Command{ID: "counter", Argv: []string{"tool", "count"}})
	if err != nil {
		return err
	}
	if _, err := ex.Stdout.Read(make([]byte, 2)); err != nil {
		return err
	}
	return errors.Join(sb.Checkpoint(ctx, e.args[1], false, nil), e.projectIsAsBefore())
}

func copiesDiffer(ctx context.Context, sb *runsc.Sandbox) error {
	return differs(ctx, sb, "-/bin/suid-tool", "-/data/gone", "+/data/made", "+/data/made/deep", "*/data/owned", "+/data/project/added",
		"+/data/project/dir/deep/added", "*/data/project/edited", "-/data/project/sub/gone", "*/etc/edited", "+/tmp", "+/tmp/mine")
}

// copiesShareTheDisk: what is written to the root and to copies counts together.
func copiesShareTheDisk(ctx context.Context, sb *runsc.Sandbox) error {
	const half = 16 << 20
	if err := sb.WriteFile(ctx, "/tmp/half", io.LimitReader(zeros{}, half), runsc.FileOptions{}); err != nil {
		return err
	}
	out, _, err := run(ctx, sb, tool("fill", "/data/project/big"))
	var n int
	if _, serr := fmt.Sscan(out, &n); err != nil || serr != nil || n < 8 || n > 16 || !strings.Contains(out, "no space") {
		return fmt.Errorf("fill what the root left: %q %w", out, err)
	}
	return errors.Join(sb.Remove(ctx, "/tmp/half", false), sb.Remove(ctx, "/data/project/big", false), tmpIsLimited(ctx, sb))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// projectIsAsBefore: nothing but what went to a writable mount is on the host.
func (e *env) projectIsAsBefore() error {
	project := filepath.Dir(e.dir) + "/project-" + filepath.Base(e.args[1])
	var got []string
	err := filepath.WalkDir(project, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			content, rerr := os.ReadFile(p)
			got, err = append(got, strings.TrimPrefix(p, project)+": "+string(content)), rerr
		}
		return err
	})
	if want := []string{"/edited: before", "/kept: kept", "/sub/gone: gone soon"}; err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("host's folder: %q %w, want %q", got, err, want)
	}
	if b, err := os.ReadFile(e.dir + "/host/dir/new"); err != nil || string(b) != "for the host" {
		return fmt.Errorf("what the guest wrote to a mount: %q %w", b, err)
	}
	return nil
}

// copiesAgainScenario goes on with the saved guest, from another shim.
func copiesAgainScenario(ctx context.Context, e *env) error {
	if err := e.useCopies(); err != nil {
		return err
	}
	sb, err := e.restored(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		copiesDiffer(ctx, sb),
		says(ctx, sb, "in the project", tool("cat", "/data/project/edited")),
		says(ctx, sb, "after", tool("cat", "/etc/edited")),
		says(ctx, sb, "changed", tool("cat", "/data/owned")),
		says(ctx, sb, "", tool("write", "/data/project/new/rw/new", "for the host")),
		copiesShareTheDisk(ctx, sb), sb.Loaded(), sb.Close(ctx), e.projectIsAsBefore(),
	)
}

// restored is the saved guest of args[1], once its counter has gone on.
func (e *env) restored(ctx context.Context) (*runsc.Sandbox, error) {
	began := time.Now()
	sb, err := runsc.Restore(ctx, e.cfg, e.args[1])
	if err != nil {
		return nil, err
	}
	ex, err := sb.Exec("counter")
	if err != nil {
		return nil, err
	}
	if _, err := ex.Stdout.Read(make([]byte, 2)); err != nil {
		return nil, err
	}
	fmt.Fprintln(e.out, "restore to first output", time.Since(began))
	return sb, nil
}
