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
)

// Pack writes source as a tar stream in which it is called name, or, with an
// empty name, the content of the folder source. Symbolic links are kept as
// links. What cannot be in an archive, such as a socket, is reported to skipped.
func Pack(ctx context.Context, w io.Writer, source, name string, skipped func(path string)) error {
	tw := tar.NewWriter(w)
	walk := func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rel, err := filepath.Rel(source, file)
		if err != nil {
			return fmt.Errorf("name %q below %q: %w", file, source, err)
		}
		entry := path.Join(name, filepath.ToSlash(rel))
		if entry == "." {
			return nil
		}
		return packOne(tw, file, entry, d, skipped)
	}
	if err := filepath.WalkDir(source, walk); err != nil {
		return err
	}
	return tw.Close()
}

func packOne(tw *tar.Writer, file, entry string, d fs.DirEntry, skipped func(string)) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var link string
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	default:
		skipped(file)
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return fmt.Errorf("archive %q: %w", file, err)
	}
	h.Name, h.Format = entry, tar.FormatPAX
	if info.IsDir() {
		h.Name = strings.TrimSuffix(entry, "/") + "/"
	}
	// Names of this machine's users mean nothing in a sandbox.
	h.Uname, h.Gname = "", ""
	if !info.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	return packRegular(tw, h, file)
}

func packRegular(tw *tar.Writer, h *tar.Header, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	// The header has promised a size: a file that grows is cut there, and one
	// that shrinks cannot be archived.
	_, err = io.CopyN(tw, f, h.Size)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read", file)
	}
	return err
}
