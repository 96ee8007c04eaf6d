package archive

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
	"strings"
	"time"
)

// EscapeError is an entry that would have been written outside the folder.
type EscapeError struct {
	Entry string
	Why   string
}

func (e *EscapeError) Error() string {
	return fmt.Sprintf("refused entry %q of the archive: %s", e.Entry, e.Why)
}

// Options say how the entries are named and who hears of those left out.
type Options struct {
	// Rename replaces the first element of every name; empty: names stay.
	Rename string
	// Strip drops the first element of every name.
	Strip bool
	// Skipped is told of entries that are not files, folders or links.
	Skipped func(name string)
}

// Unpack writes the entries of a tar stream below root.
func Unpack(ctx context.Context, r io.Reader, root *os.Root, o Options) error {
	u := &unpacker{root: root, options: o, plain: map[string]bool{".": true}}
	tr := tar.NewReader(r)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
	return u.finish()
}

// unpacker unpacks one archive.
type unpacker struct {
	root    *os.Root
	options Options
	// plain are folders known to be folders, not links to some.
	plain map[string]bool
	// folders get mode and time last, when nothing is written into them any more.
	folders []folder
}

type folder struct {
	name  string
	mode  fs.FileMode
	mtime time.Time
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	name, err := u.name(h.Name)
	if err != nil || name == "" {
		return err
	}
	if err := u.parents(h.Name, path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(h, name)
	case tar.TypeReg, '\x00':
		return u.file(h, name, body)
	case tar.TypeSymlink:
		if err := u.replace(name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, local(name))
	case tar.TypeLink:
		return u.hardlink(h, name)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		if u.options.Skipped != nil {
			u.options.Skipped(h.Name)
		}
		return nil
	}
}

// name checks the name of an entry and maps it; "" means nothing to do.
func (u *unpacker) name(in string) (string, error) {
	if path.IsAbs(in) {
		return "", &EscapeError{in, "its name is absolute"}
	}
	if strings.ContainsRune(in, 0) {
		return "", &EscapeError{in, "its name holds a NUL byte"}
	}
	for _, part := range strings.Split(in, "/") {
		if part == ".." {
			return "", &EscapeError{in, `its name holds ".."`}
		}
	}
	first, rest, _ := strings.Cut(path.Clean(in), "/")
	switch {
	case u.options.Strip:
		return rest, nil
	case u.options.Rename != "" && first != ".":
		return path.Join(u.options.Rename, rest), nil
	case first == ".":
		return "", nil
	}
	return path.Clean(in), nil
}

// parents makes the folders above an entry and refuses links among them.
func (u *unpacker) parents(entry, dir string) error {
	if u.plain[dir] {
		return nil
	}
	if err := u.parents(entry, path.Dir(dir)); err != nil {
		return err
	}
	info, err := u.root.Lstat(local(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = u.root.Mkdir(local(dir), 0o755)
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return &EscapeError{entry, fmt.Sprintf("%q on the way to it is a symbolic link", dir)}
	case err == nil && !info.IsDir():
		return fmt.Errorf("unpack %q: %q is not a folder", entry, dir)
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", entry, err)
	}
	u.plain[dir] = true
	return nil
}

func (u *unpacker) dir(h *tar.Header, name string) error {
	// A folder named by the archive is made like a parent: never through a link.
	if err := u.parents(h.Name, name); err != nil {
		return err
	}
	u.folders = append(u.folders, folder{name: name, mode: fs.FileMode(h.Mode).Perm(), mtime: h.ModTime})
	return nil
}

func (u *unpacker) file(h *tar.Header, name string, body io.Reader) error {
	if err := u.replace(name); err != nil {
		return err
	}
	// O_EXCL: what stands at the name now was made behind our back.
	f, err := u.root.OpenFile(local(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	_, err = io.Copy(f, body)
	if err == nil {
		err = f.Chmod(fs.FileMode(h.Mode).Perm())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = u.root.Chtimes(local(name), time.Time{}, h.ModTime)
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	return nil
}

func (u *unpacker) hardlink(h *tar.Header, name string) error {
	target, err := u.name(h.Linkname)
	if err != nil {
		return &EscapeError{h.Name, fmt.Sprintf("it is a link to %q", h.Linkname)}
	}
	if err := u.parents(h.Name, path.Dir(target)); err != nil {
		return err
	}
	if err := u.replace(name); err != nil {
		return err
	}
	if err := u.root.Link(local(target), local(name)); err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	return nil
}

// replace removes a file or link at a name; a folder there is an error.
func (u *unpacker) replace(name string) error {
	info, err := u.root.Lstat(local(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", name, err)
	}
	if info.IsDir() {
		return fmt.Errorf("unpack %q: a folder is in its place", name)
	}
	delete(u.plain, name)
	if err := u.root.Remove(local(name)); err != nil {
		return fmt.Errorf("unpack %q: %w", name, err)
	}
	return nil
}

func (u *unpacker) finish() error {
	for i := len(u.folders) - 1; i >= 0; i-- {
		f := u.folders[i]
		if err := errors.Join(u.root.Chmod(local(f.name), f.mode), u.root.Chtimes(local(f.name), time.Time{}, f.mtime)); err != nil {
			return fmt.Errorf("unpack %q: %w", f.name, err)
		}
	}
	return nil
}

func local(name string) string { return filepath.FromSlash(name) }
