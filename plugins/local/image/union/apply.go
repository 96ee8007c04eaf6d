package union

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	// metaPrefix starts names that AUFS kept for itself; they are no files.
	metaPrefix  = ".wh..wh."
	xattrPrefix = "SCHILY.xattr."
)

// Apply puts one uncompressed layer on top of the tree. It reads to the end of
// the archive, not to the end of r. An error is *Invalid or *TooLarge if the
// layer is at fault, and otherwise r's, the sink's or ctx's; the tree must not be
// used after it.
func (t *Tree) Apply(ctx context.Context, r io.Reader) error {
	t.layer++
	archive := tar.NewReader(r)
	// Holes of a sparse file come from the archive reader alone, so r's own
	// cancellation would not end them.
	content := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return archive.Read(p)
	})
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrInsecurePath):
			// The rules for names are ours; see split.
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return &Invalid{Problem: fmt.Sprintf("layer %d is not a tar archive: %v", t.layer, err), Err: err}
		case err != nil:
			return fmt.Errorf("read layer %d: %w", t.layer, err)
		}
		if err := t.entry(h, content); err != nil {
			return err
		}
	}
}

// entry applies one entry. Errors that are not the sink's become *Invalid here.
func (t *Tree) entry(h *tar.Header, content io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, xattrPrefix) {
			t.droppedXattrs++
		}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return invalid(h, err)
	}
	if len(parts) == 0 {
		return t.describeRoot(h)
	}
	base := parts[len(parts)-1]
	if strings.HasPrefix(base, whiteoutPrefix) {
		return t.whiteout(h, parts[:len(parts)-1], base)
	}
	if h.Typeflag == tar.TypeLink {
		return t.link(h, parts)
	}
	inode, err := inodeOf(h)
	if err != nil {
		return invalid(h, err)
	}
	if inode.Mode&erofs.TypeMask == erofs.TypeRegular {
		if inode.Data, err = t.content(h, content); err != nil {
			return err
		}
	}
	return t.place(h, parts, inode)
}

// problem is what is wrong with an entry, before it is known which entry it is.
type problem string

func (p problem) Error() string { return string(p) }

func problemf(format string, args ...any) error { return problem(fmt.Sprintf(format, args...)) }

// invalid makes a problem with the entry an *Invalid; other errors pass.
func invalid(h *tar.Header, err error) error {
	var p problem
	if errors.As(err, &p) {
		return &Invalid{Path: h.Name, Problem: string(p)}
	}
	return err
}

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (t *Tree) describeRoot(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return &Invalid{Path: h.Name, Problem: "the root of an image must be a directory"}
	}
	inode, err := inodeOf(h)
	if err != nil {
		return invalid(h, err)
	}
	t.root.file.inode = inode
	return nil
}

// content hands a file's bytes to the sink.
func (t *Tree) content(h *tar.Header, r io.Reader) (erofs.Extent, error) {
	if h.Size > t.limits.Bytes-t.bytes {
		return erofs.Extent{}, &TooLarge{Limit: "bytes", Max: t.limits.Bytes}
	}
	t.bytes += h.Size
	extent, err := t.sink.WriteFile(r, h.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return erofs.Extent{}, &Invalid{Path: h.Name, Problem: "the layer ends inside this file", Err: err}
	}
	return extent, err
}

// place puts an inode at a path: directories merge, the rest replaces.
func (t *Tree) place(h *tar.Header, parts []string, inode erofs.Inode) error {
	dir, err := t.walk(parts[:len(parts)-1], true)
	if err != nil {
		return invalid(h, err)
	}
	name := parts[len(parts)-1]
	old := dir.children[name]
	if old != nil && old.isDir() && inode.Mode&erofs.TypeMask == erofs.TypeDir {
		old.file.inode = inode
		old.own, old.seen = t.layer, t.layer
		return nil
	}
	made := &node{file: &file{inode: inode, names: 1}, own: t.layer, seen: t.layer}
	if inode.Mode&erofs.TypeMask == erofs.TypeDir {
		made.children = map[string]*node{}
	}
	return t.put(dir, name, made)
}

// link gives a file that the tree already has one more name.
func (t *Tree) link(h *tar.Header, parts []string) error {
	target, err := split(h.Linkname)
	if err != nil {
		return &Invalid{Path: h.Name, Problem: fmt.Sprintf("hard link to %q: %v", h.Linkname, err)}
	}
	found, err := t.find(target)
	if err != nil {
		return invalid(h, err)
	}
	if found == nil || found.isDir() {
		return &Invalid{Path: h.Name, Problem: fmt.Sprintf(
			"hard link to %q: it must name a file that this or a lower layer has already", h.Linkname)}
	}
	// The new name may take the place of the old one, or of a parent of it:
	// the file must outlive that.
	shared := found.file
	shared.names++
	dir, err := t.walk(parts[:len(parts)-1], true)
	if err != nil {
		return invalid(h, err)
	}
	return t.put(dir, parts[len(parts)-1], &node{file: shared, own: t.layer, seen: t.layer})
}

// whiteout hides what lower layers have at, or for the opaque marker below, a path.
func (t *Tree) whiteout(h *tar.Header, parents []string, base string) error {
	name := base[len(whiteoutPrefix):]
	if base != opaqueMarker {
		if strings.HasPrefix(base, metaPrefix) {
			return nil
		}
		if name == "" || name == "." || name == ".." {
			return &Invalid{Path: h.Name, Problem: "this whiteout names no file"}
		}
	}
	dir, err := t.walk(parents, false)
	if err != nil {
		return invalid(h, err)
	}
	if dir == nil {
		return nil
	}
	if base == opaqueMarker {
		return t.hideBelow(dir)
	}
	return t.hide(dir, name)
}

// inodeOf converts a header, except for the content of a file.
func inodeOf(h *tar.Header) (erofs.Inode, error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return erofs.Inode{}, problemf("owner %d:%d: both must fit 32 bits", h.Uid, h.Gid)
	}
	inode := erofs.Inode{
		Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
	}
	if !h.ModTime.IsZero() {
		inode.Seconds, inode.Nanoseconds = h.ModTime.Unix(), uint32(h.ModTime.Nanosecond())
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		inode.Mode |= erofs.TypeRegular
	case tar.TypeDir:
		inode.Mode |= erofs.TypeDir
	case tar.TypeSymlink:
		inode.Mode = erofs.TypeSymlink | 0o777
		inode.Target = h.Linkname
		if n := len(h.Linkname); n == 0 || n > erofs.MaxTarget {
			return erofs.Inode{}, problemf("symbolic link target of %d bytes: it must have 1 to %d", n, erofs.MaxTarget)
		}
	case tar.TypeChar, tar.TypeBlock:
		inode.Mode |= erofs.TypeCharDev
		if h.Typeflag == tar.TypeBlock {
			inode.Mode = inode.Mode&0o7777 | erofs.TypeBlockDev
		}
		if h.Devmajor < 0 || h.Devmajor > 0xfff || h.Devminor < 0 || h.Devminor > 0xfffff {
			return erofs.Inode{}, problemf("device %d:%d: Linux has 12 bits and 20 bits for them", h.Devmajor, h.Devminor)
		}
		inode.Device = erofs.Device(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeFifo:
		inode.Mode |= erofs.TypeFIFO
	default:
		return erofs.Inode{}, problemf("entry type %q is not a file, directory, link or device", h.Typeflag)
	}
	return inode, nil
}
