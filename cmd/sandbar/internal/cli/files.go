package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/archive"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type cpCmd struct {
	KeepOwners bool           `help:"Keep numeric owners of a tar stream read from standard input."`
	Source     value.Location `arg:"" name:"src" help:"PATH, SANDBOX:/PATH, or - for a tar stream from standard input. PATH/. copies what is in the folder."`
	Target     value.Location `arg:"" name:"dst" help:"PATH, SANDBOX:/PATH, or - for a tar stream to standard output."`
}

// Help is shown below the flags.
func (*cpCmd) Help() string {
	return "A copy goes into the target if that is a folder, and takes its name otherwise. Owners are not kept; links stay links. " +
		"What comes out of a sandbox can never be written outside of the target."
}

// Run copies one way or the other.
func (c *cpCmd) Run(ctx context.Context, a *app) error {
	switch {
	case c.Source.Sandbox != "" && c.Target.Sandbox != "":
		return &usageError{message: "cp copies into or out of a sandbox, not between two; use `sandbar cp A:/path - | sandbar cp - B:/path`"}
	case c.Source.Sandbox == "" && c.Target.Sandbox == "":
		return &usageError{message: "neither side is in a sandbox; write it as SANDBOX:/path"}
	case c.Source.Sandbox != "":
		return a.download(ctx, c.Source, c.Target)
	default:
		return a.upload(ctx, c.Source, c.Target, c.KeepOwners)
	}
}

func (a *app) skipped(name string) { a.warn("left out %q: it is no file, folder or link", name) }

// upload sends files, or a tar stream from standard input.
func (a *app) upload(ctx context.Context, src, dst value.Location, keepOwners bool) error {
	if src.Stream() {
		if terminal.Is(a.stdin) {
			return &usageError{message: "standard input is a terminal, and - expects a tar stream from it"}
		}
		return a.sendArchive(ctx, dst.Sandbox, dst.Path, keepOwners, func(w io.Writer) error {
			_, err := io.Copy(w, a.stdin)
			return err
		})
	}
	info, err := os.Lstat(src.Path)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(src.Path)
	if err != nil {
		return fmt.Errorf("find %q: %w", src.Path, err)
	}
	folder, name, err := a.uploadTarget(ctx, src, dst, filepath.Base(abs), info.IsDir())
	if err != nil {
		return err
	}
	return a.sendArchive(ctx, dst.Sandbox, folder, false, func(w io.Writer) error {
		return archive.Pack(ctx, w, abs, name, a.skipped)
	})
}

// uploadTarget decides on the folder to unpack in and the name to use there.
func (a *app) uploadTarget(ctx context.Context, src, dst value.Location, base string, isDir bool) (folder, name string, err error) {
	if src.Contents && isDir {
		return dst.Path, "", nil
	}
	if dst.Folder || dst.Contents || dst.Path == "/" {
		return dst.Path, base, nil
	}
	info, err := a.stat(ctx, dst.Sandbox, dst.Path)
	switch {
	case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND):
		return path.Dir(dst.Path), path.Base(dst.Path), nil
	case err != nil:
		return "", "", err
	case info.GetType() == providerv1.FileType_FILE_TYPE_DIRECTORY:
		return dst.Path, base, nil
	case isDir:
		return "", "", fmt.Errorf("cannot copy a folder onto %s:%s, which is a file", dst.Sandbox, dst.Path)
	}
	return path.Dir(dst.Path), path.Base(dst.Path), nil
}

func (a *app) stat(ctx context.Context, sandbox, p string) (*providerv1.FileInfo, error) {
	return steady(ctx, a, quickCall, func(ctx context.Context, c *client.Client) (*providerv1.FileInfo, error) {
		res, err := c.StatFile(ctx, request(&providerv1.StatFileRequest{Sandbox: ref(sandbox), Path: p, Follow: true}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetInfo(), nil
	})
}

// sendArchive streams what produce writes to the sandbox. An archive that could
// not be produced whole is not ended but cut, so that it is not taken for whole.
func (a *app) sendArchive(ctx context.Context, sandbox, folder string, keepOwners bool, produce func(io.Writer) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.progress("copying into the sandbox")()
	s := c.UploadArchive(ctx)
	w := &transfer.Upload{Stream: s}
	err = w.Open(sandbox, folder, keepOwners)
	if err == nil {
		err = produce(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err // the deferred cancel cuts the stream
	}
	_, err = s.CloseAndReceive()
	return err
}

// download fetches files, or passes the tar stream on to standard output.
func (a *app) download(ctx context.Context, src, dst value.Location) error {
	if dst.Stream() {
		if terminal.Is(a.stdout) {
			return &usageError{message: "standard output is a terminal, and - would write a tar stream to it"}
		}
		return a.receiveArchive(ctx, src, func(r io.Reader) error {
			_, err := io.Copy(a.stdout, r)
			return err
		})
	}
	folder, o, err := downloadTarget(src, dst)
	if err != nil {
		return err
	}
	o.Skipped = a.skipped
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return a.receiveArchive(ctx, src, func(r io.Reader) error {
		if err := archive.Unpack(ctx, r, root, o); err != nil {
			return err
		}
		// The padding after the end of the archive still belongs to the stream.
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// downloadTarget decides on the folder to unpack in and the name to use there.
func downloadTarget(src, dst value.Location) (folder string, o archive.Options, err error) {
	info, err := os.Stat(dst.Path)
	switch {
	case err == nil && info.IsDir():
		return dst.Path, archive.Options{Strip: src.Contents || src.Path == "/"}, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", o, err
	case err == nil && dst.Folder:
		return "", o, fmt.Errorf("%s is a file, not a folder", dst.Path)
	case src.Contents || src.Path == "/":
		if err := os.Mkdir(dst.Path, 0o755); err != nil {
			return "", o, err
		}
		return dst.Path, archive.Options{Strip: true}, nil
	case dst.Folder:
		return "", o, fmt.Errorf("folder %s does not exist; make it first", dst.Path)
	}
	return filepath.Dir(dst.Path), archive.Options{Rename: filepath.Base(dst.Path)}, nil
}

func (a *app) receiveArchive(ctx context.Context, src value.Location, consume func(io.Reader) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.progress("copying out of the sandbox")()
	s, err := c.DownloadArchive(ctx, request(&providerv1.DownloadArchiveRequest{Sandbox: ref(src.Sandbox), Paths: []string{src.Path}}))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return consume(&transfer.Download{Stream: s})
}

type diffCmd struct {
	Sandbox string `arg:"" help:"Id or name."`
	Mount   string `arg:"" optional:"" help:"Where an overlay folder is mounted; default: the root file system."`
}

// Run prints a letter and a path for each change: A, M or D.
func (c *diffCmd) Run(ctx context.Context, a *app) error {
	if c.Mount != "" && !path.IsAbs(c.Mount) {
		return &usageError{message: fmt.Sprintf("<mount>: %q is not an absolute path", c.Mount), command: "sandbar diff"}
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	s, err := cl.DiffFiles(ctx, request(&providerv1.DiffFilesRequest{Sandbox: ref(c.Sandbox), MountTarget: c.Mount}))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	var all []*providerv1.FileChange
	for s.Receive() {
		if a.JSON {
			all = append(all, s.Msg().GetChanges()...)
			continue
		}
		for _, ch := range s.Msg().GetChanges() {
			if err := a.out("%s %s", changeLetter(ch.GetKind()), render.Cell(ch.GetPath())); err != nil {
				return err
			}
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	if a.JSON {
		return render.Messages(a.stdout, all)
	}
	return nil
}

func changeLetter(k providerv1.FileChangeKind) string {
	switch k {
	case providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED:
		return "A"
	case providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED:
		return "M"
	case providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED:
		return "D"
	default:
		return "?"
	}
}
