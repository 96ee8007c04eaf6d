package agent

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// pack streams a file, or a directory's content with names relative to it. Sockets, devices and other mounts below /proc, /sys
// and /.sandbar are left out.
func pack(req *wire.Request) (func() error, error) {
	root := filepath.Clean(req.Path)
	fi, err := os.Lstat(root)
	if err != nil {
		return nil, err
	}
	out, err := openStream(req.Stdout, syscall.O_WRONLY)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer out.Close()
		w := bufio.NewWriterSize(out, copyBuffer)
		tw := tar.NewWriter(w)
		base := root
		if !fi.IsDir() {
			base = filepath.Dir(root)
		}
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			return packEntry(tw, base, p, d, err)
		})
		return errors.Join(err, tw.Close(), w.Flush())
	}, nil
}

func packEntry(tw *tar.Writer, base, p string, d fs.DirEntry, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since its directory was read
	}
	if err != nil {
		return err
	}
	switch p {
	case wire.Dir, "/proc", "/sys", "/dev":
		return fs.SkipDir
	case base:
		return nil
	}
	fi, err := d.Info()
	if err != nil || fi.Mode()&(fs.ModeSocket|fs.ModeDevice) != 0 {
		return nil //nolint:nilerr // an entry that vanished is no failure of the archive
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	// FileInfoHeader asks the user database for names; numbers are the truth here.
	h.Uname, h.Gname = "", ""
	h.Name = strings.TrimPrefix(p[len(base):], "/")
	if fi.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grows meanwhile is cut at the size announced; one that shrinks is an error of the archive.
	_, err = io.CopyN(tw, f, h.Size)
	return err
}

// unpack extracts below a directory, which must exist. os.Root keeps every entry, whatever its name and whatever links lie on
// its way, inside that directory.
func unpack(req *wire.Request) (func() error, error) {
	root, err := os.OpenRoot(req.Path)
	if err != nil {
		return nil, err
	}
	who, err := lookupUser(req.User)
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	in, err := openStream(req.Stdin, syscall.O_RDONLY)
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return func() error {
		defer root.Close()
		defer in.Close()
		r := bufio.NewReaderSize(in, copyBuffer)
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				_, err = io.Copy(io.Discard, r) // padding: the sender must not see a closed pipe
				return err
			}
			if err != nil {
				return fmt.Errorf("read archive: %w", err)
			}
			if err := unpackEntry(root, tr, h, who, req.User != ""); err != nil {
				return fmt.Errorf("unpack %q: %w", h.Name, err)
			}
		}
	}, nil
}

func unpackEntry(root *os.Root, tr io.Reader, h *tar.Header, who user, override bool) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mode := os.FileMode(h.Mode).Perm()
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		if err = root.Mkdir(name, mode|0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case tar.TypeReg:
		err = unpackFile(root, name, tr)
	case tar.TypeSymlink:
		_ = root.Remove(name)
		err = root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		_ = root.Remove(name)
		return root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), name)
	default:
		return fmt.Errorf("entry type %q: %w", h.Typeflag, syscall.EOPNOTSUPP)
	}
	if err != nil {
		return err
	}
	uid, gid := h.Uid, h.Gid
	if override {
		uid, gid = int(who.uid), int(who.gid)
	}
	if err := root.Lchown(name, uid, gid); err != nil || h.Typeflag == tar.TypeSymlink {
		return err
	}
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}

func unpackFile(root *os.Root, name string, src io.Reader) error {
	// A file that exists is replaced, not written through: it may be linked from elsewhere or be executing.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, src, make([]byte, copyBuffer))
	return errors.Join(err, f.Close())
}
