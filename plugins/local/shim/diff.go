package shim

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// diffBatch is how many changes travel in one message.
const diffBatch = 500

// Names by which an OCI layer says that something is gone.
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// bootMarker is a file of the runtime's own that is gone before the first
// command runs.
const bootMarker = "/tmp/.sandbar-boot"

// DiffFiles implements sdk.Differ. The guest's overlay is the truth: what it
// holds above the read-only tree is what changed, copy-on-write mounts included.
func (g *guest) DiffFiles(_ context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error {
	within, without, err := g.diffScope(req.GetMountTarget())
	if err != nil {
		return err
	}
	changes, err := g.changes()
	if err != nil {
		return endedOr(err)
	}
	changes = slices.DeleteFunc(changes, func(c *providerv1.FileChange) bool {
		p := c.GetPath()
		return !below(p, within) || slices.ContainsFunc(without, func(dir string) bool { return below(p, dir) })
	})
	slices.SortFunc(changes, func(a, b *providerv1.FileChange) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	for batch := range slices.Chunk(changes, diffBatch) {
		if err := send(batch); err != nil {
			return err
		}
	}
	return nil
}

// diffScope returns the folder to report on, and those inside it that are not
// the guest's own tree.
func (g *guest) diffScope(target string) (within string, without []string, err error) {
	without = []string{"/.sandbar", "/proc", "/sys", "/dev"}
	if target != "" {
		for _, m := range g.spec.GetMounts() {
			if m.GetTarget() == target && m.GetMode() == providerv1.MountMode_MOUNT_MODE_OVERLAY {
				return target, without, nil
			}
		}
		return "", nil, fault.Field("mount_target", target, "want the target of a mount of mode overlay")
	}
	for _, m := range g.spec.GetMounts() {
		without = append(without, m.GetTarget())
	}
	return "/", without, nil
}

func below(p, dir string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// changes reads the overlay's upper layer and compares it with the lower tree.
func (g *guest) changes() ([]*providerv1.FileChange, error) {
	f, err := os.CreateTemp(g.life.private, "diff-")
	if err != nil {
		return nil, fmt.Errorf("make room for the comparison: %w", err)
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	if err := g.sb.Diff(f); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var out []*providerv1.FileChange
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		more, err := g.change(h)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
}

// change says what one entry of the upper layer means.
func (g *guest) change(h *tar.Header) ([]*providerv1.FileChange, error) {
	name := path.Clean("/" + h.Name)
	dir, base := path.Split(name)
	switch {
	case name == "/", name == bootMarker:
		return nil, nil
	case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0: // as overlay file systems write a whiteout
		return []*providerv1.FileChange{{Path: name, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED}}, nil
	case base == whiteoutOpaque:
		return g.deletedBelow(path.Clean(dir))
	case strings.HasPrefix(base, whiteout):
		name = path.Join(dir, strings.TrimPrefix(base, whiteout))
		return []*providerv1.FileChange{{Path: name, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED}}, nil
	}
	change := &providerv1.FileChange{Path: name, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED, Info: headerInfo(name, h)}
	old, err := g.lower().lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return []*providerv1.FileChange{change}, nil
	case err != nil:
		return nil, fmt.Errorf("compare %q: %w", name, err)
	}
	// A folder is copied up when something below it changes: by itself that is no
	// change of the folder.
	if old.IsDir() && h.Typeflag == tar.TypeDir && uint32(old.Mode().Perm()) == change.GetInfo().GetMode()&0o777 {
		return nil, nil
	}
	change.Kind = providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED
	return []*providerv1.FileChange{change}, nil
}

// deletedBelow lists the lower entries that an opaque folder hides. Entries that
// were made again appear as changes of their own and replace these.
func (g *guest) deletedBelow(dir string) ([]*providerv1.FileChange, error) {
	entries, err := g.lower().readDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("compare %q: %w", dir, err)
	}
	var out []*providerv1.FileChange
	for _, e := range entries {
		out = append(out, &providerv1.FileChange{
			Path: path.Join(dir, e.Name()), Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED,
		})
	}
	return out, nil
}

func headerInfo(name string, h *tar.Header) *providerv1.FileInfo {
	info := &providerv1.FileInfo{
		Path: name, Size: h.Size, Mode: uint32(h.Mode) & 0o7777,
		Uid: uint32(h.Uid), Gid: uint32(h.Gid),
		ModifiedAt: timestamppb.New(h.ModTime), LinkTarget: h.Linkname, Type: providerv1.FileType_FILE_TYPE_OTHER,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink:
		info.Type = providerv1.FileType_FILE_TYPE_REGULAR
	case tar.TypeDir:
		info.Type = providerv1.FileType_FILE_TYPE_DIRECTORY
	case tar.TypeSymlink:
		info.Type = providerv1.FileType_FILE_TYPE_SYMLINK
	}
	return info
}

// lowerTree is a tree on the machine that a guest's paths are looked up in
// without following a link: names come from the overlay, whose folders are
// folders in the lower tree too.
type lowerTree string

func (l lowerTree) lstat(name string) (fs.FileInfo, error) {
	return os.Lstat(filepath.Join(string(l), filepath.FromSlash(name)))
}

func (l lowerTree) readDir(name string) ([]fs.DirEntry, error) {
	return os.ReadDir(filepath.Join(string(l), filepath.FromSlash(name)))
}
