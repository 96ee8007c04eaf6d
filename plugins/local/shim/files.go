package shim

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// fileFault turns what the guest's kernel said about a path into the contract's
// words.
func fileFault(err error, name string) error {
	var ge *runsc.GuestError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &ge):
		return endedOr(err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%q does not exist", name).With("path", name)
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%q: %w", name, err).
		With("path", name).With("errno", unix.ErrnoName(ge.Errno))
}

// StatFile implements sdk.FileReader.
func (g *guest) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	name := path.Clean(req.GetPath())
	for range maxLinks {
		fi, err := g.sb.Stat(ctx, name)
		if err != nil {
			return nil, fileFault(err, req.GetPath())
		}
		if !req.GetFollow() || fi.Mode&unix.S_IFMT != unix.S_IFLNK {
			return fileInfo(name, fi), nil
		}
		name = resolve(name, fi.Target)
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%q: too many links", req.GetPath()).
		With("path", req.GetPath()).With("errno", "ELOOP")
}

// maxLinks is how many links in a row a path may name, as on Linux.
const maxLinks = 40

// resolve returns where a link at name leads. Folders on the way are resolved by
// the guest's kernel when the result is used, so only the text matters here.
func resolve(name, target string) string {
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	// path.Join would resolve ".." before the kernel has followed a linked folder.
	return path.Dir(name) + "/" + target
}

// ReadFile implements sdk.FileReader.
func (g *guest) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	info, err := g.StatFile(ctx, &providerv1.StatFileRequest{Path: req.GetPath(), Follow: true})
	if err != nil {
		return err
	}
	r, err := g.sb.ReadFile(ctx, req.GetPath(), req.GetOffset(), req.GetLength())
	if err != nil {
		return fileFault(err, req.GetPath())
	}
	defer func() { _ = r.Close() }()
	if err := send(&providerv1.ReadFileResponse{Info: info}); err != nil {
		return err
	}
	_, err = io.CopyBuffer(writerFunc(func(p []byte) error { return send(&providerv1.ReadFileResponse{Data: p}) }),
		struct{ io.Reader }{r}, make([]byte, copyBytes))
	return fileFault(err, req.GetPath())
}

// copyBytes is how much of a file is handed on at once; the SDK cuts it into
// frames.
const copyBytes = 256 << 10

type writerFunc func([]byte) error

func (f writerFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func fileInfo(name string, fi *runsc.FileInfo) *providerv1.FileInfo {
	info := &providerv1.FileInfo{
		Path: strings.ToValidUTF8(name, "\uFFFD"), Size: fi.Size, Mode: fi.Mode & 0o7777, Uid: fi.UID, Gid: fi.GID,
		ModifiedAt: timestamppb.New(time.Unix(0, fi.ModTime)), LinkTarget: strings.ToValidUTF8(fi.Target, "\uFFFD"),
	}
	if info.Path != name {
		info.NameBytes = []byte(path.Base(name))
	}
	switch fi.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		info.Type = providerv1.FileType_FILE_TYPE_REGULAR
	case unix.S_IFDIR:
		info.Type = providerv1.FileType_FILE_TYPE_DIRECTORY
	case unix.S_IFLNK:
		info.Type = providerv1.FileType_FILE_TYPE_SYMLINK
	default:
		info.Type = providerv1.FileType_FILE_TYPE_OTHER
	}
	return info
}

// WriteFile implements sdk.FileWriter.
func (g *guest) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	name := open.GetPath()
	if open.GetMakeParents() {
		err := g.sb.Mkdir(ctx, path.Dir(name), runsc.FileOptions{Recursive: true, User: g.owner(open.GetUser())})
		if err != nil {
			return nil, fileFault(err, path.Dir(name))
		}
	}
	if open.GetMode() == providerv1.WriteMode_WRITE_MODE_CREATE_NEW {
		if _, err := g.sb.Stat(ctx, name); err == nil {
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%q exists", name).
				With("path", name).With("errno", "EEXIST")
		}
	}
	opts := runsc.FileOptions{Mode: open.GetPermissions(), User: g.owner(open.GetUser())}
	if err := g.write(ctx, open, content, opts); err != nil {
		return nil, fileFault(err, name)
	}
	return g.StatFile(ctx, &providerv1.StatFileRequest{Path: name, Follow: true})
}

func (g *guest) write(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader, opts runsc.FileOptions) error {
	switch open.GetMode() {
	case providerv1.WriteMode_WRITE_MODE_APPEND:
		return g.sb.PatchFile(ctx, open.GetPath(), content, -1, opts)
	case providerv1.WriteMode_WRITE_MODE_AT_OFFSET:
		if open.GetOffset() < 0 {
			return fault.Field("offset", strconv.FormatInt(open.GetOffset(), 10), "want 0 or more")
		}
		return g.sb.PatchFile(ctx, open.GetPath(), content, open.GetOffset(), opts)
	default:
		return g.sb.WriteFile(ctx, open.GetPath(), content, opts)
	}
}

// owner is who owns what is written on behalf of a caller.
func (g *guest) owner(asked string) string { return first(asked, g.spec.GetUser(), g.root.User) }

// MakeDirectory implements sdk.FileWriter.
func (g *guest) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	opts := runsc.FileOptions{Mode: req.GetPermissions(), Recursive: req.GetParents(), User: g.owner("")}
	return fileFault(g.sb.Mkdir(ctx, req.GetPath(), opts), req.GetPath())
}

// RemoveFile implements sdk.FileWriter.
func (g *guest) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	// A recursive removal of nothing is no error to the kernel; the answer still
	// says which it was.
	if _, err := g.sb.Stat(ctx, req.GetPath()); errors.Is(err, fs.ErrNotExist) {
		return &providerv1.RemoveFileResponse{AlreadyAbsent: true}, nil
	}
	err := g.sb.Remove(ctx, req.GetPath(), req.GetRecursive())
	if errors.Is(err, fs.ErrNotExist) {
		return &providerv1.RemoveFileResponse{AlreadyAbsent: true}, nil
	}
	if err != nil {
		return nil, fileFault(err, req.GetPath())
	}
	return &providerv1.RemoveFileResponse{}, nil
}

// MoveFile implements sdk.FileWriter.
func (g *guest) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	if !req.GetOverwrite() {
		if _, err := g.sb.Stat(ctx, req.GetTo()); err == nil {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%q exists", req.GetTo()).
				With("path", req.GetTo()).With("errno", "EEXIST")
		}
	}
	err := g.sb.Rename(ctx, req.GetFrom(), req.GetTo())
	return fileFault(err, req.GetFrom())
}
