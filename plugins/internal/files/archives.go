package files

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DownloadArchive serves sdk.ArchiveDownloader. What is neither a file, a folder
// nor a link is left out.
func (b *Sandbox) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, w io.Writer) error {
	f := b.call(false)
	from := spoolName()
	args := []string{from}
	for _, p := range req.GetPaths() {
		name := path.Base(path.Clean(p))
		if name == "/" {
			name = "."
		}
		args = append(args, name, p)
	}
	if _, err := f.do(ctx, "pack", args...); err != nil {
		return err
	}
	defer f.remove(from)
	body, err := f.b.place.Receive(ctx, from)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it was only read
	out := tar.NewWriter(w)
	tree := bufio.NewReader(body)
	for {
		line, err := tree.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return out.Close()
		}
		if err == nil {
			err = packOne(out, strings.TrimSuffix(line, "\n"), tree)
		}
		if err != nil {
			return upstream.Explain(fmt.Errorf("the archive was cut: %w", err), false)
		}
	}
}

// packOne writes one file of a tree to an archive.
func packOne(out *tar.Writer, line string, content io.Reader) error {
	file, err := parseFile(line)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: file.name, Mode: int64(file.mode), Uid: int(file.uid), Gid: int(file.gid), ModTime: time.Unix(file.mtime, 0)}
	switch file.kind {
	case "r":
		h.Typeflag, h.Size = tar.TypeReg, file.size
	case "d":
		h.Typeflag, h.Name = tar.TypeDir, file.name+"/"
	case "l":
		h.Typeflag, h.Linkname = tar.TypeSymlink, file.target
	case "h":
		h.Typeflag, h.Linkname = tar.TypeLink, file.target
	default:
		return fmt.Errorf("%w: kind %q", errLine, file.kind)
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(out, content, h.Size)
	return err
}

// UploadArchive serves sdk.ArchiveUploader. The vendor's own call unpacks
// archives, and nobody says what it does with links that lead out of the folder: so
// that call only brings the content, and the sandbox unpacks it with care.
func (b *Sandbox) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, r io.Reader) (*providerv1.UploadArchiveResponse, error) {
	f := b.call(true)
	f.root = open.GetKeepOwners() // nobody else may give files away
	x, taken := f.cargo(ctx), false
	defer func() { x.drop(taken) }()
	answer, err := x.load(r)
	if err != nil {
		return nil, err
	}
	spool, pieces := x.args()
	s, err := f.do(ctx, "unpack", flag(open.GetKeepOwners()), open.GetPath(), spool, pieces)
	taken = s.done
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// load turns an archive into a tree, and sends it.
func (x *cargo) load(r io.Reader) (*providerv1.UploadArchiveResponse, error) {
	answer := &providerv1.UploadArchiveResponse{}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, r); err != nil { // a tar may be padded
				return nil, err
			}
			return answer, x.close()
		}
		if err != nil {
			return nil, notWhole(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		line, err := treeLine(h)
		if err != nil {
			return nil, err
		}
		if line == "" {
			continue
		}
		if _, err := io.WriteString(x, line); err != nil {
			return nil, err
		}
		n, err := io.Copy(x, in) //nolint:gosec // it is sent on, and not kept
		var known *fault.Error
		if errors.As(err, &known) {
			return nil, err // it could not be sent
		}
		if err != nil {
			return nil, notWhole(err)
		}
		answer.Files++
		answer.Bytes += n
	}
}

func notWhole(err error) error {
	return fileRefused("archive", "EINVAL", "it is not a whole tar: "+err.Error())
}

// treeLine is the line for an entry; none for the folder that is unpacked into.
func treeLine(h *tar.Header) (string, error) {
	name, err := inside(h.Name, h.Name)
	if err != nil || name == "." {
		return "", err
	}
	var kind, target string
	switch h.Typeflag {
	case tar.TypeReg:
		kind = "r"
	case tar.TypeDir:
		kind = "d"
	case tar.TypeSymlink:
		kind, target = "l", h.Linkname
	case tar.TypeLink:
		kind = "h"
		if target, err = inside(h.Name, h.Linkname); err != nil {
			return "", err
		}
	default:
		return "", fileRefused(shown(h.Name), "EPERM", fmt.Sprintf("entries of type %q are not unpacked", h.Typeflag))
	}
	const all = 0o7777
	line := fmt.Sprintf("file %s %s %d %d %d %d %s", kind, octal(uint32(h.Mode&all)), h.Uid, h.Gid, h.Size, h.ModTime.Unix(), spell(name))
	if target != "" {
		line += " " + spell(target)
	}
	return line + "\n", nil
}

// inside cleans a name of an entry, and refuses one that leads out of the folder.
func inside(entry, name string) (string, error) {
	if clean := path.Clean(name); !path.IsAbs(name) && clean != ".." && !strings.HasPrefix(clean, "../") {
		return clean, nil
	}
	return "", fileRefused(shown(entry), "EPERM", "the entry leads out of the target folder")
}

func shown(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
