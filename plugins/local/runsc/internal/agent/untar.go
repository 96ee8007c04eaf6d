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
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// unpack extracts below a directory, which must exist. A name that is absolute or climbs is refused, and os.Root keeps every other
// inside that directory, whatever links lie on its way.
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
	u := &unpacker{root: root, who: who, override: req.User != ""}
	return func() error {
		defer root.Close()
		defer in.Close()
		return u.all(bufio.NewReaderSize(in, copyBuffer))
	}, nil
}

type unpacker struct {
	root *os.Root
	// who owns the entries, if override is set.
	who      user
	override bool
	// dirs get their times last, because every entry in them changes those.
	dirs []*tar.Header
}

func (u *unpacker) all(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(tr, h); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	for _, h := range slices.Backward(u.dirs) {
		if err := u.root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	_, err := io.Copy(io.Discard, r) // padding: the sender must not see a closed pipe
	return err
}

// localName cleans a name, or refuses it.
func localName(name string) (string, error) {
	if strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("name leads out of the directory: %w", syscall.EPERM)
	}
	return path.Clean(name), nil
}

func (u *unpacker) entry(tr io.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, such as the commit of a git archive
	}
	name, err := localName(h.Name)
	if err != nil || name == "." {
		return err
	}
	h.Name = name
	if dir := path.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := u.create(tr, h); err != nil || h.Typeflag == tar.TypeLink {
		return err // a link has nothing of its own
	}
	uid, gid := h.Uid, h.Gid
	if u.override {
		uid, gid = int(u.who.uid), int(u.who.gid)
	}
	if err := u.root.Lchown(name, uid, gid); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.at(name, func(dir uintptr, base *byte) syscall.Errno { return setTime(dir, base, h.ModTime) })
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
	}
	// After the owner, whose change takes the set-user-id bit away.
	if err := u.root.Chmod(name, permissions(h)); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

func permissions(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// create makes what is at h.Name; anything else there, unless it is a directory for a directory, goes.
func (u *unpacker) create(tr io.Reader, h *tar.Header) error {
	if fi, err := u.root.Lstat(h.Name); err == nil {
		if h.Typeflag == tar.TypeDir && fi.IsDir() {
			return nil
		}
		// A file is replaced, not written through: it may be linked from elsewhere or be executing.
		if err := u.root.Remove(h.Name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.root.Mkdir(h.Name, 0o700)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return u.file(h.Name, tr)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		target, err := localName(h.Linkname)
		if err != nil {
			return err
		}
		return u.root.Link(target, h.Name)
	case tar.TypeFifo:
		return u.at(h.Name, func(dir uintptr, base *byte) syscall.Errno {
			_, _, errno := syscall.Syscall6(syscall.SYS_MKNODAT, dir, uintptr(unsafe.Pointer(base)), syscall.S_IFIFO|0o600, 0, 0, 0)
			return errno
		})
	}
	return fmt.Errorf("entry type %q: %w", h.Typeflag, syscall.EOPNOTSUPP)
}

func (u *unpacker) file(name string, src io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, src, make([]byte, copyBuffer))
	return errors.Join(err, f.Close())
}

// at makes a system call that os.Root lacks, with the open directory that name is in and the last part of it.
func (u *unpacker) at(name string, call func(dir uintptr, base *byte) syscall.Errno) error {
	dir, err := u.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	base, err := syscall.BytePtrFromString(path.Base(name))
	if err != nil {
		return err
	}
	if errno := call(dir.Fd(), base); errno != 0 {
		return errno
	}
	return nil
}

// setTime sets the times of a link itself.
func setTime(dir uintptr, base *byte, at time.Time) syscall.Errno {
	const atSymlinkNofollow = 0x100
	times := [2]syscall.Timespec{syscall.NsecToTimespec(at.UnixNano()), syscall.NsecToTimespec(at.UnixNano())}
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, dir, uintptr(unsafe.Pointer(base)),
		uintptr(unsafe.Pointer(&times)), atSymlinkNofollow, 0, 0)
	return errno
}
