package runsc_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

func filesScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	if err := sb.Mkdir(ctx, "/data/a/b", runsc.FileOptions{Recursive: true, User: "sandbox"}); err != nil {
		return err
	}
	if err := sb.WriteFile(ctx, "/data/a/f", bytes.NewReader(data), runsc.FileOptions{Mode: 0o600, User: "sandbox"}); err != nil {
		return err
	}
	broken := io.MultiReader(strings.NewReader("half"), brokenReader{})
	if err := sb.WriteFile(ctx, "/data/a/f", broken, runsc.FileOptions{}); err == nil {
		return errors.New("broken source was accepted")
	}
	r, err := sb.ReadFile(ctx, "/data/a/f", 5, 0)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data[5:]) {
		return fmt.Errorf("read: %d bytes %w", len(got), err)
	}
	_ = r.Close()
	if _, err := sb.ReadFile(ctx, "/nope", 0, 0); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read missing: %w", err)
	}
	fi, err := sb.Stat(ctx, "/data/a/f")
	if err != nil || fi.Size != int64(len(data)) || fi.Mode&0o7777 != 0o600 || fi.UID != 1000 {
		return fmt.Errorf("stat: %+v %w", fi, err)
	}
	if err := sb.Rename(ctx, "/data/a/f", "/data/a/g"); err != nil {
		return err
	}
	var names []string
	err = sb.List(ctx, "/data/a", func(fi runsc.FileInfo) error { names = append(names, fi.Name); return nil })
	if err != nil || !slices.Equal(names, []string{"b", "g"}) {
		return fmt.Errorf("list: %v %w", names, err)
	}
	if err := sb.Remove(ctx, "/data/a", false); !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove of a full directory: %w", err)
	}
	return errors.Join(tarWorks(ctx, sb), sb.Remove(ctx, "/data", true), sb.Close(ctx))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("source broke") }

func tarWorks(ctx context.Context, sb *runsc.Sandbox) error {
	r, err := sb.Tar(ctx, "/data")
	if err != nil {
		return err
	}
	archive, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	_ = r.Close()
	if err := sb.Mkdir(ctx, "/copy", runsc.FileOptions{}); err != nil {
		return err
	}
	if err := sb.Untar(ctx, "/copy", bytes.NewReader(archive), runsc.FileOptions{}); err != nil {
		return fmt.Errorf("untar: %w", err)
	}
	if err := expect(ctx, sb, "cmp /data/a/g /copy/a/g && stat -c '%u %a' /copy/a/g", "1000 600"); err != nil {
		return err
	}
	return errors.Join(archiveRoundTrip(ctx, sb), archiveEscapes(ctx, sb))
}

// archiveRoundTrip packs a tree of everything that an archive can hold, unpacks it and compares.
func archiveRoundTrip(ctx context.Context, sb *runsc.Sandbox) error {
	const make = `mkdir -p /t/d && cd /t && echo x > d/suid && chown 7:8 d/suid && chmod 6755 d/suid && ln d/suid hard && ln -s nowhere soft &&
		mkfifo pipe && touch "$(printf 'new\nline')" "$(printf 'not-utf8-\377')" && chmod 1777 d && mkdir ro && chmod 555 ro &&
		touch -d @1.5 d/suid && touch -h -d @2 soft && touch -d @3 d ro`
	const tell = `find . -mindepth 1 ! -name '*_' | sort | while read -r f; do stat -c '%n %f %u:%g %h %y' "$f"; done; readlink soft; ls | wc -l; cat hard`
	want, exit, err := run(ctx, sb, sh(make+"; "+tell))
	if err != nil || exit.Code != 0 {
		return fmt.Errorf("make tree: %q %+v %w", want, exit, err)
	}
	r, err := sb.Tar(ctx, "/t")
	if err != nil {
		return err
	}
	defer r.Close()
	if err := errors.Join(sb.Mkdir(ctx, "/u", runsc.FileOptions{}), sb.Untar(ctx, "/u", r, runsc.FileOptions{})); err != nil {
		return fmt.Errorf("round trip: %w", err)
	}
	return expect(ctx, sb, "cd /u; "+tell, want)
}

// archiveEscapes: no entry can reach outside, and one that tries is refused instead of put elsewhere.
func archiveEscapes(ctx context.Context, sb *runsc.Sandbox) error {
	reg := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	for _, entries := range [][]*tar.Header{
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, reg("link/passwd")},
		{{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../etc"}, reg("up/passwd")},
		{reg("/etc/passwd")},
		{reg("../etc/passwd")},
		{reg("a/../../etc/passwd")},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../etc/passwd"}},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		{{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	} {
		var evil bytes.Buffer
		tw := tar.NewWriter(&evil)
		for _, h := range entries {
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
		}
		_ = tw.Close()
		if err := sb.Mkdir(ctx, "/evil", runsc.FileOptions{}); err != nil {
			return err
		}
		var ge *runsc.GuestError
		if err := sb.Untar(ctx, "/evil", &evil, runsc.FileOptions{}); !errors.As(err, &ge) {
			return fmt.Errorf("archive with %q: %w", entries[len(entries)-1].Name, err)
		}
		if err := expect(ctx, sb, "head -c4 /etc/passwd; find /evil -type f; rm -r /evil", "root"); err != nil {
			return err
		}
	}
	return nil
}
