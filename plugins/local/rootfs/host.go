package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say what a tree contains beside the host's programs.
type Options struct {
	// Hostname is written to /etc/hostname and /etc/hosts; empty is "sandbox".
	Hostname string
	// Binds are host directories or files shown at a path of the guest, as copy-on-write: the guest's overlay covers them.
	Binds []Bind
	// Host is where the host's files are found; empty is "/". Tests use it.
	Host string
}

// Bind shows Source of the host at Target of the guest.
type Bind struct{ Source, Target string }

// topLevel are the directories that hold programs; on a merged host all but /usr are links into it.
var topLevel = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// etcShared are the directories of /etc that belong to programs and hold no secret.
var etcShared = []string{
	"etc/alternatives", "etc/ld.so.conf.d", "etc/ssl/certs", "etc/pki/tls/certs", "etc/pki/ca-trust/extracted",
	"etc/ca-certificates",
}

// etcCopied are single files of /etc, of the same kind. Links are followed.
var etcCopied = []string{
	"etc/ld.so.cache", "etc/ld.so.conf", "etc/localtime", "etc/ssl/openssl.cnf", "etc/pki/tls/openssl.cnf", "etc/protocols",
	"etc/services", "etc/mime.types", "etc/os-release", "etc/debian_version", "etc/shells", "etc/bindresvport.blacklist",
}

// emptyDirs exist, empty, with these modes.
var emptyDirs = []struct {
	name string
	mode fs.FileMode
}{
	{"dev", 0o755},
	{"home", 0o755},
	{"home/sandbox", 0o777},
	{"media", 0o755},
	{"mnt", 0o755},
	{"opt", 0o755},
	{"proc", 0o555},
	{"root", 0o700},
	{"run", 0o755},
	{"run/lock", 0o755 | fs.ModeSticky},
	{"srv", 0o755},
	{"sys", 0o555},
	{"tmp", 0o777 | fs.ModeSticky},
	{"var", 0o755},
	{"var/cache", 0o755},
	{"var/lib", 0o755},
	{"var/log", 0o755},
	{"var/tmp", 0o777 | fs.ModeSticky},
	{".sandbar", 0o755},
	{".sandbar/io", 0o755},
}

// Host builds the tree in dir, which is created. On failure the caller ends the mount namespace.
func Host(dir string, opts Options) error {
	if opts.Host == "" {
		opts.Host = "/"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create root %q: %w", dir, err)
	}
	for _, d := range emptyDirs {
		if err := makeDir(filepath.Join(dir, d.name), d.mode); err != nil {
			return err
		}
	}
	for _, name := range topLevel {
		if err := shareTop(opts.Host, dir, name); err != nil {
			return err
		}
	}
	if err := buildEtc(opts, dir); err != nil {
		return err
	}
	for _, link := range [][2]string{{"../run", "var/run"}, {"../run/lock", "var/lock"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			return fmt.Errorf("link %q: %w", link[1], err)
		}
	}
	for _, b := range opts.Binds {
		if err := bindInto(dir, b); err != nil {
			return fmt.Errorf("show %q at %q: %w", b.Source, b.Target, err)
		}
	}
	return nil
}

// Copies shows sources as the entries "0", "1", ... of dir, which is created, for a guest whose root Host does not build.
func Copies(dir string, sources []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create %q: %w", dir, err)
	}
	for i, source := range sources {
		if err := bindInto(dir, Bind{Source: source, Target: strconv.Itoa(i)}); err != nil {
			return fmt.Errorf("show %q: %w", source, err)
		}
	}
	return nil
}

func makeDir(name string, mode fs.FileMode) error {
	if err := os.MkdirAll(name, 0o755); err != nil {
		return fmt.Errorf("create directory %q: %w", name, err)
	}
	if err := os.Chmod(name, mode); err != nil {
		return fmt.Errorf("create directory %q: %w", name, err)
	}
	return nil
}

// shareTop repeats a link of the host's root, or shows the directory.
func shareTop(host, dir, name string) error {
	src, dst := filepath.Join(host, name), filepath.Join(dir, name)
	fi, err := os.Lstat(src)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %q: %w", src, err)
	case fi.IsDir():
		if err := makeDir(dst, 0o755); err != nil {
			return err
		}
		return bindReadOnly(src, dst)
	case fi.Mode()&fs.ModeSymlink == 0:
		return nil
	}
	target, err := os.Readlink(src)
	if err != nil {
		return fmt.Errorf("read link %q: %w", src, err)
	}
	// Only links among the program directories are repeated: any other would lead out of what the guest may see.
	if first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+target), "/"), "/"); !slices.Contains(topLevel, first) {
		return nil
	}
	if err := os.Symlink(target, dst); err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	return nil
}

// bindReadOnly shows src at dst with all file systems mounted below it, as a user namespace demands.
func bindReadOnly(src, dst string) error {
	f, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer f.Close()
	return bindAt(src, int(f.Fd()))
}

// bindAt shows src, read-only, on top of the open file dst. Working on descriptors leaves no moment in which the mount is there
// and writable, or in which dst could have become a link.
func bindAt(src string, dst int) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("clone mount %q: %w", src, err)
	}
	defer unix.Close(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		return fmt.Errorf("make %q read-only: %w", src, err)
	}
	if err := unix.MoveMount(tree, "", dst, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %q: %w", src, err)
	}
	return nil
}

// bindInto shows a host path below dir. Links inside the tree are followed but cannot lead out of it, and a target inside a
// directory of the host must exist there, since nothing is ever created on the host.
func bindInto(dir string, b Bind) error {
	src, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name := strings.TrimPrefix(path.Clean("/"+b.Target), "/")
	if name == "" {
		return errors.New("target is the root")
	}
	if src.IsDir() {
		err = root.MkdirAll(name, 0o755)
	} else {
		if err = root.MkdirAll(path.Dir(name), 0o755); err == nil {
			err = createFile(root, name)
		}
	}
	if err != nil {
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return bindAt(b.Source, int(f.Fd()))
}

func createFile(root *os.Root, name string) error {
	if _, err := root.Stat(name); err == nil {
		return nil
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
