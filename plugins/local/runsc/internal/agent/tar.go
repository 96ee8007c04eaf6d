package agent

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

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
		pk := &packer{tw: tw, base: base, linked: map[inode]string{}}
		err := filepath.WalkDir(root, pk.entry)
		return errors.Join(err, tw.Close(), w.Flush())
	}, nil
}

type packer struct {
	tw   *tar.Writer
	base string
	// linked has the first name of each file that has several.
	linked map[inode]string
}

type inode struct{ dev, ino uint64 }

// entry is the function of a walk.
func (pk *packer) entry(p string, d fs.DirEntry, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since its directory was read
	}
	if err != nil {
		return err
	}
	switch p {
	case wire.Dir, "/proc", "/sys", "/dev":
		return fs.SkipDir
	case pk.base:
		return nil
	}
	fi, err := d.Info()
	if err != nil || fi.Mode()&(fs.ModeSocket|fs.ModeDevice) != 0 {
		return nil // an entry that vanished is no failure of the archive
	}
	h, err := pk.header(p, fi)
	if err != nil {
		return err
	}
	if err := pk.tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grows meanwhile is cut at the size announced; one that shrinks is an error of the archive.
	_, err = io.CopyN(pk.tw, f, h.Size)
	return err
}

func (pk *packer) header(p string, fi fs.FileInfo) (*tar.Header, error) {
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(p); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return nil, err
	}
	// FileInfoHeader asks the user database for names; numbers are the truth here.
	h.Uname, h.Gname = "", ""
	// PAX keeps the whole modification time; nobody can set the other two.
	h.Format, h.AccessTime, h.ChangeTime = tar.FormatPAX, time.Time{}, time.Time{}
	h.Name = strings.TrimPrefix(p[len(pk.base):], "/")
	if fi.IsDir() {
		h.Name += "/"
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && fi.Mode().IsRegular() && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := pk.linked[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return h, nil
		}
		pk.linked[id] = h.Name
	}
	return h, nil
}
