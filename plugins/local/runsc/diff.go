package runsc

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// ChangeKind says what happened to a path.
type ChangeKind int

// The kinds of a Change.
const (
	Added ChangeKind = iota + 1
	Modified
	Deleted
)

// Change is one path at which the guest differs from its lower root.
type Change struct {
	Path string // absolute
	Kind ChangeKind
	// Header describes what is there now; nil if nothing is. The name of a hard link in it is absolute too.
	Header *tar.Header
}

// Changes compares the guest with its lower root, in the order of paths. Mounts and what is below them are no part of it, nor is what
// this package itself has put there. A directory counts as modified only if it is not one in the lower root, or has other permissions.
func (s *Sandbox) Changes(ctx context.Context) ([]Change, error) {
	list := s.upper
	if s.cfg.layered() {
		list = func() ([]*tar.Header, error) { return s.layeredUpper(ctx) }
	}
	headers, err := list()
	if err != nil {
		return nil, fmt.Errorf("collect changes of sandbox %q: %w", s.cfg.ID, err)
	}
	var changes []Change
	gone := map[string]bool{} // whiteouts, of which one may be a hard link to another
	for _, h := range headers {
		h.Name, h.Linkname = path.Clean("/"+h.Name), cleanLink(h)
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 || h.Typeflag == tar.TypeLink && gone[h.Linkname] {
			gone[h.Name] = true
		}
		more, err := s.change(ctx, h, gone[h.Name])
		if err != nil {
			return nil, fmt.Errorf("compare %q with the root of sandbox %q: %w", h.Name, s.cfg.ID, err)
		}
		changes = append(changes, more...)
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	// A whiteout says the same as its directory's comparison.
	return slices.CompactFunc(changes, func(a, b Change) bool { return a.Path == b.Path && a.Kind == b.Kind }), nil
}

func cleanLink(h *tar.Header) string {
	if h.Typeflag == tar.TypeLink {
		return path.Clean("/" + h.Linkname)
	}
	return h.Linkname
}

// change says what one entry of the upper layer means.
func (s *Sandbox) change(ctx context.Context, h *tar.Header, gone bool) ([]Change, error) {
	if h.Name == "/" || s.isMount(h.Name) || s.untouched(h) {
		return nil, nil
	}
	old, err := s.lower.Lstat(h.Name)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case err != nil && !missing:
		return nil, err
	case gone && missing:
		return nil, nil // it came and went
	case gone:
		return []Change{{Path: h.Name, Kind: Deleted}}, nil
	case missing && h.Typeflag == tar.TypeDir && s.holdsMount(h.Name):
		return nil, nil // made for the mount
	case missing:
		return []Change{{Path: h.Name, Kind: Added, Header: h}}, nil
	case old.IsDir() && h.Typeflag == tar.TypeDir:
		changes, err := s.deletedBelow(ctx, h.Name)
		if old != h.FileInfo().Mode() {
			changes = append(changes, Change{Path: h.Name, Kind: Modified, Header: h})
		}
		return changes, err
	}
	return []Change{{Path: h.Name, Kind: Modified, Header: h}}, nil
}

// deletedBelow asks the guest what is left of a directory that it may have replaced: its upper layer does not tell.
func (s *Sandbox) deletedBelow(ctx context.Context, dir string) ([]Change, error) {
	names, err := s.lower.Names(dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	left := map[string]bool{}
	err = s.List(ctx, dir, func(fi FileInfo) error { left[fi.Name] = true; return nil })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var changes []Change
	for _, name := range names {
		if full := path.Join(dir, name); !left[name] && !s.isMount(full) {
			changes = append(changes, Change{Path: full, Kind: Deleted})
		}
	}
	return changes, nil
}

// isMount says whether name is, or is below, something that is no part of the guest's own tree.
func (s *Sandbox) isMount(name string) bool {
	for _, dir := range []string{wire.Dir, "/proc", "/sys", "/dev", wire.TmpMarker} {
		if within(name, dir) {
			return true
		}
	}
	return slices.ContainsFunc(s.cfg.Mounts, func(m Mount) bool { return within(name, path.Clean(m.Target)) })
}

// holdsMount says whether there is a mount below dir.
func (s *Sandbox) holdsMount(dir string) bool {
	return slices.ContainsFunc(s.cfg.targets(), func(target string) bool { return within(path.Clean(target), dir) })
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// untouched says whether an entry is one of the files that the configuration demands, as it was made.
func (s *Sandbox) untouched(h *tar.Header) bool {
	content, ours := s.cfg.Files[h.Name]
	return ours && h.ModTime.Unix() == wire.FilesTime && h.Size == int64(len(content))
}

// upper lists what the guest's overlay holds. The guest kernel may have its file system locked meanwhile: nothing is asked of the guest
// before the list is complete.
func (s *Sandbox) upper() ([]*tar.Header, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		err := s.sand.TarRootfsUpperLayer(s.cfg.ID, w)
		sent <- errors.Join(err, w.Close())
	}()
	var headers []*tar.Header
	tr := tar.NewReader(r)
	for err == nil {
		var h *tar.Header
		if h, err = tr.Next(); err == nil {
			headers = append(headers, h)
		}
	}
	if errors.Is(err, io.EOF) {
		_, err = io.Copy(io.Discard, r)
	}
	err = errors.Join(err, r.Close())
	return headers, errors.Join(<-sent, err)
}
