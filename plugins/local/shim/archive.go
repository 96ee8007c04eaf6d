package shim

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DownloadArchive implements sdk.ArchiveDownloader: the guest packs each path,
// and here they become one archive with the names that the contract promises.
func (g *guest) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, out io.Writer) error {
	tw := tar.NewWriter(out)
	for _, name := range req.GetPaths() {
		if err := g.pack(ctx, tw, path.Clean(name)); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (g *guest) pack(ctx context.Context, tw *tar.Writer, name string) error {
	fi, err := g.sb.Stat(ctx, name)
	if err != nil {
		return fileFault(err, name)
	}
	prefix := ""
	if fi.Mode&unix.S_IFMT == unix.S_IFDIR && name != "/" {
		prefix = path.Base(name) + "/"
		h := &tar.Header{
			Typeflag: tar.TypeDir, Name: prefix, Mode: int64(fi.Mode & 0o7777),
			Uid: int(fi.UID), Gid: int(fi.GID), ModTime: fileInfo(name, fi).GetModifiedAt().AsTime(),
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	r, err := g.sb.Tar(ctx, name)
	if err != nil {
		return fileFault(err, name)
	}
	defer func() { _ = r.Close() }()
	if err := copyArchive(tw, tar.NewReader(r), prefix); err != nil {
		return fileFault(err, name)
	}
	// What follows the end mark is padding; the guest must be able to write it.
	_, err = io.Copy(io.Discard, r)
	return fileFault(err, name)
}

func copyArchive(tw *tar.Writer, tr *tar.Reader, prefix string) error {
	buf := make([]byte, copyBytes)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = prefix + h.Name
		if h.Typeflag == tar.TypeLink {
			h.Linkname = prefix + strings.TrimPrefix(h.Linkname, "/")
		}
		h.Format = tar.FormatPAX
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(tw, struct{ io.Reader }{tr}, buf); err != nil {
			return err
		}
	}
}

// UploadArchive implements sdk.ArchiveUploader: the guest unpacks, and cannot be
// led out of the folder by any entry.
func (g *guest) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) (*providerv1.UploadArchiveResponse, error) {
	count := &archiveCount{}
	checked, done := count.watch(in)
	err := g.upload(ctx, open, checked)
	if cerr := done(err); err == nil && cerr != nil {
		return nil, fault.Field("data", "archive", "want a complete tar stream: "+cerr.Error())
	}
	if err != nil {
		return nil, fileFault(err, open.GetPath())
	}
	return &providerv1.UploadArchiveResponse{Files: count.files, Bytes: count.bytes}, nil
}

func (g *guest) upload(ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) error {
	owner := g.owner("")
	if err := g.sb.Mkdir(ctx, open.GetPath(), runsc.FileOptions{Recursive: true, User: owner}); err != nil {
		return err
	}
	switch {
	case open.GetKeepOwners():
		owner = ""
	case owner == "":
		owner = "0:0"
	}
	return g.sb.Untar(ctx, open.GetPath(), in, runsc.FileOptions{User: owner})
}

// archiveCount reads an archive's headers as it passes by, to tell what was
// unpacked and whether the stream was whole.
type archiveCount struct {
	files, bytes int64
	tail         zeroTail
}

// zeroTail counts the zero bytes at the end of a stream: an archive ends with
// two blocks of them, and one that was cut does not.
type zeroTail struct{ zeros int }

// endMark is the length of the two blocks.
const endMark = 1024

func (z *zeroTail) Write(p []byte) (int, error) {
	if rest := len(bytes.TrimRight(p, "\x00")); rest > 0 {
		z.zeros = len(p) - rest
	} else {
		z.zeros += len(p)
	}
	return len(p), nil
}

// watch returns a reader of the same bytes. done must be called after the last
// read, with the reader's outcome; it returns what was wrong with the archive.
func (c *archiveCount) watch(in io.Reader) (out io.Reader, done func(error) error) {
	pr, pw := io.Pipe()
	result := make(chan error, 1)
	go func() {
		err := c.count(tar.NewReader(pr))
		// The rest, and everything after a malformed header, still has to pass.
		_, _ = io.Copy(io.Discard, pr)
		if err == nil && c.tail.zeros < endMark {
			err = errors.New("its end mark is missing")
		}
		result <- err
	}()
	return io.TeeReader(in, io.MultiWriter(&c.tail, pw)), func(err error) error {
		_ = pw.CloseWithError(err) // nil is io.EOF
		return <-result
	}
}

func (c *archiveCount) count(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeDir {
			c.files++
		}
		c.bytes += h.Size
	}
}
