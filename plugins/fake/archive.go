package fake

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DownloadArchive implements sdk.ArchiveDownloader.
func (d *Driver) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, w io.Writer) error {
	_, err := during(ctx, d, "DownloadArchive", func(c *cloud) (*struct{}, error) {
		entries, err := c.pack(req)
		if err != nil {
			return nil, err
		}
		out := tar.NewWriter(w)
		for _, e := range entries {
			if err := out.WriteHeader(e.header); err != nil {
				return nil, fmt.Errorf("pack %q: %w", e.header.Name, err)
			}
			if _, err := out.Write(e.data); err != nil {
				return nil, err
			}
		}
		return &struct{}{}, out.Close()
	})
	return err
}

type entry struct {
	header *tar.Header
	data   []byte
}

// pack lists what goes into an archive; the content is never changed after.
func (c *cloud) pack(req *providerv1.DownloadArchiveRequest) ([]entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.findRunning(req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	v := c.view(b)
	first := map[uint64]string{}
	var out []entry
	for _, p := range req.GetPaths() {
		at, err := v.existing(p, false)
		if err != nil {
			return nil, err
		}
		name := path.Base(cleanPath(p))
		if name == "/" {
			name = "."
		}
		out = append(out, packed(name, at.node, first))
		_ = v.each(at, func(kid place) error { // the function never fails
			rel := strings.TrimPrefix(strings.TrimPrefix(kid.path, at.path), "/")
			out = append(out, packed(path.Join(name, rel), kid.node, first))
			return nil
		})
	}
	return out, nil
}

// packed is an entry for a node. first holds the name under which a file that has
// several was packed.
func packed(name string, n *node, first map[uint64]string) entry {
	h := &tar.Header{Name: name, Mode: int64(n.Mode), Uid: int(n.UID), Gid: int(n.GID), ModTime: n.MTime.Truncate(1e9)}
	if was, again := first[n.Inode]; again && n.Inode != 0 {
		h.Typeflag, h.Linkname = tar.TypeLink, was
		return entry{header: h}
	}
	first[n.Inode] = name
	switch n.Kind {
	case folder:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Link
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(n.Data))
		return entry{h, n.Data}
	}
	return entry{header: h}
}

// UploadArchive implements sdk.ArchiveUploader. The archive is read as a whole
// before anything changes, so that one that is cut or escapes changes nothing.
func (d *Driver) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, r io.Reader) (*providerv1.UploadArchiveResponse, error) {
	return during(ctx, d, "UploadArchive", func(c *cloud) (*providerv1.UploadArchiveResponse, error) {
		entries, err := readArchive(r)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(open.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		before := b.spare()
		out, err := c.unpack(b, open, entries)
		if err != nil {
			b.Root = before
			return nil, err
		}
		return out, c.saveFiles(b)
	})
}

func readArchive(r io.Reader) ([]entry, error) {
	var out []entry
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			// Read to the end of the stream: a tar may be padded.
			_, err := io.Copy(io.Discard, r)
			return out, err
		}
		if err != nil {
			return nil, refused("archive", "EINVAL", "it is not a whole tar: "+err.Error())
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return nil, refused("archive", "EINVAL", "it is not a whole tar: "+err.Error())
		}
		out = append(out, entry{h, data})
	}
}

func (c *cloud) unpack(b *box, open *providerv1.UploadArchiveOpen, entries []entry) (*providerv1.UploadArchiveResponse, error) {
	v := c.edit(b)
	if err := v.makeFolders(cleanPath(open.GetPath()), c.now()); err != nil {
		return nil, err
	}
	root, err := v.existing(open.GetPath(), true)
	if err != nil {
		return nil, err
	}
	uid, gid, err := userOf(b, "", "")
	if err != nil {
		return nil, err
	}
	out := &providerv1.UploadArchiveResponse{}
	for _, e := range entries {
		n := &node{Mode: uint32(e.header.Mode) & 0o7777, UID: uid, GID: gid, MTime: e.header.ModTime}
		if open.GetKeepOwners() {
			n.UID, n.GID = uint32(e.header.Uid), uint32(e.header.Gid)
		}
		if err := c.fits(b, e.header.Name, int64(len(e.data))); err != nil {
			return nil, err
		}
		if err := v.unpackOne(root, e, n, c); err != nil {
			return nil, err
		}
		out.Files++
		out.Bytes += int64(len(e.data))
	}
	return out, nil
}

// unpackOne puts one entry below root. It refuses names that leave root, by
// themselves or through links that exist by now.
func (v *view) unpackOne(root place, e entry, n *node, c *cloud) error {
	name := path.Clean(e.header.Name)
	if path.IsAbs(e.header.Name) || name == ".." || strings.HasPrefix(name, "../") {
		return refused(e.header.Name, "EPERM", "the entry leads out of the target folder")
	}
	if name == "." {
		return nil
	}
	full := path.Join(root.path, name)
	if err := v.makeFolders(path.Dir(full), c.now()); err != nil {
		return err
	}
	at, err := v.walk(full, false)
	if err != nil {
		return err
	}
	if at.path != full {
		return refused(e.header.Name, "EPERM", "the entry leads through a symbolic link")
	}
	switch e.header.Typeflag {
	case tar.TypeReg:
		n.Kind, n.Data = regular, e.data
	case tar.TypeDir:
		if at.node != nil && at.node.Kind == folder {
			at.node.Mode, at.node.MTime = n.Mode, n.MTime
			return nil
		}
		n.Kind, n.Kids = folder, map[string]*node{}
	case tar.TypeSymlink:
		n.Kind, n.Link = symlink, e.header.Linkname
	case tar.TypeLink:
		target, err := v.existing(path.Join(root.path, path.Clean("/"+e.header.Linkname)), false)
		if err != nil || target.path != path.Join(root.path, path.Clean("/"+e.header.Linkname)) {
			return refused(e.header.Name, "EPERM", "the hard link leads out of the target folder")
		}
		n = target.node.linked()
	default:
		return refused(e.header.Name, "EPERM", fmt.Sprintf("entries of type %q are not unpacked", e.header.Typeflag))
	}
	return v.put(full, at, n)
}
