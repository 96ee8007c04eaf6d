package shim

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	defaultPage = 1000
	// maxListed bounds what one listing holds in memory, at some 200 bytes each.
	maxListed = 500_000
)

// ListFiles implements sdk.FileReader. A page starts behind the path that the
// token names, so that files which come and go between pages neither repeat
// others nor hide them.
func (g *guest) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	w := &walk{guest: g, recursive: req.GetRecursive(), after: req.GetPageToken()}
	if err := w.folder(ctx, path.Clean(req.GetPath())); err != nil {
		return nil, err
	}
	slices.SortFunc(w.found, func(a, b *providerv1.FileInfo) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	out := &providerv1.ListFilesResponse{Files: w.found}
	if len(w.found) > size {
		out.Files = w.found[:size]
		out.NextPageToken = out.Files[size-1].GetPath()
	}
	return out, nil
}

// walk gathers the entries of a folder, or of all below it.
type walk struct {
	guest     *guest
	recursive bool
	after     string
	found     []*providerv1.FileInfo
}

func (w *walk) folder(ctx context.Context, dir string) error {
	var below []string
	err := w.guest.sb.List(ctx, dir, func(fi runsc.FileInfo) error {
		name := path.Join(dir, fi.Name)
		if info := fileInfo(name, &fi); info.GetPath() > w.after {
			w.found = append(w.found, info)
		}
		if w.recursive && fi.Mode&unix.S_IFMT == unix.S_IFDIR && !kernelFolder(name) {
			below = append(below, name)
		}
		if len(w.found) > maxListed {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
				"%q holds more than %d files: list its folders one by one", dir, maxListed).With("path", dir)
		}
		return nil
	})
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case err != nil:
		return fileFault(err, dir)
	}
	for _, name := range below {
		if err := w.folder(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) && !gone(err) {
			return err
		}
	}
	return nil
}

// gone reports whether a folder vanished while it was walked.
func gone(err error) bool {
	return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
}

// kernelFolder reports whether name is a tree that no disk holds; walking it
// would have no end.
func kernelFolder(name string) bool {
	return slices.Contains([]string{"/proc", "/sys", "/dev", "/.sandbar"}, name)
}
