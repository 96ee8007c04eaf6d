package runsc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/erofs"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
)

// Lower is the root file system below what the guest has written, as seen by the host. Paths are the guest's, absolute; no link in them
// is followed, not even in the middle. It is valid until the sandbox is closed.
type Lower struct {
	dir    string
	copies Copies // are in their places whatever dir or image has there

	mu    sync.RWMutex
	image *erofs.Image // nil for a directory, and once closed
}

// Lower returns the guest's lower root.
func (s *Sandbox) Lower() *Lower { return s.lower }

func openLower(c *Config) (*Lower, error) {
	if c.Image == "" {
		return &Lower{dir: c.Root}, nil
	}
	f, err := os.Open(c.Image)
	if err != nil {
		return nil, err
	}
	image, err := erofs.OpenImage(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read image %q: %w", c.Image, err)
	}
	if err := placeImage(f); err != nil {
		image.Close()
		return nil, fmt.Errorf("place image %q: %w", c.Image, err)
	}
	return &Lower{image: image, copies: c.Copies}, nil
}

// placeImage makes f the file that imageAnnotations name.
func placeImage(f *os.File) error {
	if _, err := unix.FcntlInt(imageFD, unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		return fmt.Errorf("descriptor %d is in use: a shim runs one sandbox, once", imageFD)
	}
	return unix.Dup3(int(f.Fd()), imageFD, unix.O_CLOEXEC)
}

func (l *Lower) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.image != nil {
		l.image.Close()
		l.image = nil
		_ = unix.Close(imageFD)
	}
}

// Lstat returns the type and permissions of a file. It is fs.ErrNotExist if there is none.
func (l *Lower) Lstat(name string) (fs.FileMode, error) {
	if file, ok := l.onHost(name); ok {
		fi, err := os.Lstat(file)
		if errors.Is(err, syscall.ENOTDIR) {
			err = &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
		}
		if err != nil {
			return 0, err
		}
		return fi.Mode(), nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	inode, err := l.find(name)
	if err != nil {
		return 0, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return fileMode(inode.Mode()), nil
}

// Names lists a directory. It is fs.ErrNotExist if there is no directory of that name.
func (l *Lower) Names(dir string) ([]string, error) {
	var names []string
	if file, ok := l.onHost(dir); ok {
		entries, err := os.ReadDir(file)
		if errors.Is(err, syscall.ENOTDIR) {
			err = &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	inode, err := l.find(dir)
	if err == nil {
		err = erofsError(inode.IterDirents(func(name string, _ uint8, _ uint64) error {
			if name != "." && name != ".." {
				names = append(names, name)
			}
			return nil
		}))
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: err}
	}
	return names, nil
}

// onHost returns the file of the host that is at name, unless an image is looked into for that.
func (l *Lower) onHost(name string) (string, bool) {
	name = path.Clean("/" + name)
	found, entry := "", 0
	for i, target := range l.copies.Targets {
		if target = path.Clean(target); within(name, target) && len(target) > len(found) {
			found, entry = target, i
		}
	}
	if found != "" {
		return path.Join(l.copies.Dir, strconv.Itoa(entry), name[len(found):]), true
	}
	return path.Join(l.dir, name), l.dir != ""
}

// find walks from the root of the image; l.mu must be held.
func (l *Lower) find(name string) (erofs.Inode, error) {
	if l.image == nil {
		return erofs.Inode{}, fs.ErrClosed
	}
	inode, err := l.image.Inode(l.image.RootNid())
	for part := range strings.SplitSeq(path.Clean("/"+name), "/") {
		if err != nil {
			break
		}
		if part == "" {
			continue
		}
		var nid uint64
		if nid, err = inode.Lookup(part); err == nil {
			inode, err = l.image.Inode(nid)
		}
	}
	return inode, erofsError(err)
}

func erofsError(err error) error {
	if linuxerr.Equals(linuxerr.ENOENT, err) || linuxerr.Equals(linuxerr.ENOTDIR, err) {
		return fs.ErrNotExist
	}
	return err
}

// fileMode translates the bits of an inode.
func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, b := range []struct {
		bits uint16
		mode fs.FileMode
	}{{syscall.S_ISUID, fs.ModeSetuid}, {syscall.S_ISGID, fs.ModeSetgid}, {syscall.S_ISVTX, fs.ModeSticky}} {
		if mode&b.bits != 0 {
			m |= b.mode
		}
	}
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		m |= fs.ModeDir
	case syscall.S_IFLNK:
		m |= fs.ModeSymlink
	case syscall.S_IFIFO:
		m |= fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		m |= fs.ModeSocket
	case syscall.S_IFBLK:
		m |= fs.ModeDevice
	case syscall.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	return m
}
