package portable

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// blobs are the files of a layout by name, such as index.json.
type blobs interface {
	// open returns a file and its size. The caller closes it.
	open(name string) (io.ReadCloser, int64, error)
	close() error
}

func openBlobs(name string) (blobs, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		return &folder{root}, nil
	case !info.Mode().IsRegular():
		return nil, damaged("%s is neither a folder nor a file", name)
	}
	return openPacked(name)
}

// folder is a layout in a folder. Nothing outside of it can be opened, and no link.
type folder struct{ root *os.Root }

func (f *folder) close() error { return f.root.Close() }

func (f *folder) open(name string) (io.ReadCloser, int64, error) {
	// Before it is opened, which waits for ever for a named pipe.
	info, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, missing(name)
	}
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, damaged("%s is no plain file", name)
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	if info, err = file.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, 0, errors.Join(err, damaged("%s is no plain file", name))
	}
	return file, info.Size(), nil
}

func missing(name string) error { return damaged("it has no %s", name) }

// maxPacked bounds the files of a packed layout, of which a snapshot has five.
const maxPacked = 1000

// packed is a layout in one tar file.
type packed struct {
	file  *os.File
	files map[string]*io.SectionReader
}

func openPacked(name string) (_ *packed, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	p := &packed{file: f, files: map[string]*io.SectionReader{}}
	if err := p.index(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return p, nil
}

// index finds where the files are; their content is skipped, not read.
func (p *packed) index() error {
	for tr := tar.NewReader(p.file); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged("it is no whole tar file: %v", err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg || cleaned(h.Name) == "":
			return damaged("its entry %q is no plain file in it", h.Name)
		case p.files[name] != nil:
			return damaged("its entry %q is there twice", h.Name)
		case len(p.files) == maxPacked:
			return damaged("it has more than %d files", maxPacked)
		}
		at, err := p.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("read %s: %w", p.file.Name(), err)
		}
		p.files[name] = io.NewSectionReader(p.file, at, h.Size)
	}
}

func (p *packed) close() error { return p.file.Close() }

func (p *packed) open(name string) (io.ReadCloser, int64, error) {
	s := p.files[name]
	if s == nil {
		return nil, 0, missing(name)
	}
	return io.NopCloser(io.NewSectionReader(s, 0, s.Size())), s.Size(), nil
}
