package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// The upper layers on the disk of a layered root, one for the root and one for all copies.
const (
	rootUpper = wire.DiskDir + "/root"
	copyUpper = wire.DiskDir + "/copy"
)

// assemble makes the root that l describes and moves there. The first root, with all that made the new one, is out of everybody's reach
// afterwards but for its disk, which stays open to tell what was written.
func (a *agent) assemble(l *wire.Layers) error {
	if err := overlay(wire.ImageDir, rootUpper, wire.RootDir); err != nil {
		return err
	}
	if l.Copies {
		if err := overlay(wire.SourceDir, copyUpper, wire.CopyDir); err != nil {
			return err
		}
	}
	var err error
	if a.disk, err = openDir(wire.DiskDir); err != nil {
		return err
	}
	// The runtime kills a guest that lets go of a tree of the host, as the first root is. So it stays open for good.
	if _, err = openDir("/"); err != nil {
		return err
	}
	if err := os.MkdirAll(wire.RootDir+wire.OldDir, 0o755); err != nil {
		return err
	}
	if err := syscall.PivotRoot(wire.RootDir, wire.RootDir+wire.OldDir); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// From here on links on the way to a target are those of the image.
	for _, s := range l.Show {
		if err := show(wire.OldDir+s.From, s.To); err != nil {
			return fmt.Errorf("show %q: %w", s.To, err)
		}
	}
	if err := syscall.Unmount(wire.OldDir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leave first root: %w", err)
	}
	return os.Remove(wire.OldDir)
}

func openDir(name string) (rawFile, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", name, err)
	}
	return rawFile(fd), nil
}

// overlay mounts lower at target with what is written in upper, a new directory that looks as the lower one.
func overlay(lower, upper, target string) error {
	var st syscall.Stat_t
	if err := syscall.Stat(lower, &st); err != nil {
		return fmt.Errorf("look at %q: %w", lower, err)
	}
	for _, dir := range []string{upper, target} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	err := errors.Join(syscall.Chown(upper, int(st.Uid), int(st.Gid)), syscall.Chmod(upper, st.Mode&0o7777))
	if err == nil {
		err = syscall.Mount("overlay", target, "overlay", 0, "lowerdir="+lower+",upperdir="+upper)
	}
	if err != nil {
		return fmt.Errorf("lay %q over %q: %w", upper, lower, err)
	}
	return nil
}

// show binds from, with what is mounted below it, to a target that is made if it is missing.
func show(from, to string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	dir := to
	if !fi.IsDir() {
		dir = filepath.Dir(to)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !fi.IsDir() {
		if err := touch(to); err != nil {
			return err
		}
	}
	return syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, "")
}

// touch makes an empty file where there is nothing.
func touch(name string) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// upper streams what the upper layers hold. It goes there by the open disk, since no path leads there any more.
func (a *agent) upper(req *wire.Request) (func() error, error) {
	if a.disk < 0 {
		return nil, fmt.Errorf("list layers: this root has none: %w", syscall.ENOSYS)
	}
	out, err := openStream(req.Stdout, syscall.O_WRONLY)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer out.Close()
		w := bufio.NewWriterSize(out, 64<<10)
		enc := json.NewEncoder(w)
		base := "/proc/self/fd/" + strconv.Itoa(int(a.disk)) + "/"
		err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since its directory was read
			}
			if err != nil || p == base {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // gone as well
			}
			return enc.Encode(upperFile(p, strings.TrimPrefix(p, base), fi))
		})
		return errors.Join(err, w.Flush())
	}, nil
}

func upperFile(path, name string, fi fs.FileInfo) *wire.UpperFile {
	f := &wire.UpperFile{Name: []byte(name), Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		f.Mode, f.UID, f.GID = st.Mode, st.Uid, st.Gid
		f.Gone = st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == 0
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		target, _ := os.Readlink(path)
		f.Target = []byte(target)
	}
	return f
}
