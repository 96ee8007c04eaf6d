package daytona

import (
	"context"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/files"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// place is a files.Place.
type place struct {
	d   *Driver
	c   *configuration
	ref *providerv1.SandboxRef
	at  api.Place
}

// files are those of a sandbox.
func (d *Driver) files(ctx context.Context, ref *providerv1.SandboxRef) (*files.Sandbox, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	return files.Of(&place{d: d, c: c, ref: ref, at: at.place()}, ref.GetSandboxId(), d.opts.Log), nil
}

// byRoot runs the rest of its arguments as root, if that can be.
const byRoot = `if [ "$(id -u)" != 0 ] && command -v sudo > /dev/null 2>&1; then exec sudo -n "$@"; fi; exec "$@"`

// Run implements files.Place.
func (p *place) Run(ctx context.Context, args []string, changes, root bool) (string, error) {
	if root {
		args = append([]string{"-c", byRoot, "sandbar", "/bin/sh"}, args...)
	}
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Duration(math.Ceil(time.Until(deadline).Seconds())) * time.Second
	}
	result, err := p.c.vendor.Execute(ctx, p.at, line(args), max(timeout, time.Second))
	if upstream.Is(err, http.StatusRequestTimeout) {
		return "", upstream.Explain(&upstream.LostError{Sent: true, Err: context.DeadlineExceeded}, changes)
	}
	if err != nil {
		return "", p.d.explain(ctx, p.ref, err, changes)
	}
	return result.Output, nil
}

// Send implements files.Place.
func (p *place) Send(ctx context.Context, name string, content []byte) error {
	if err := p.c.vendor.Upload(ctx, p.at, name, content); err != nil {
		return p.d.explain(ctx, p.ref, err, false) // what it is for has not begun
	}
	return nil
}

// Receive implements files.Place.
func (p *place) Receive(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := p.c.vendor.Download(ctx, p.at, name)
	if err == nil {
		return body, nil
	}
	explained := p.d.explain(ctx, p.ref, err, false)
	if upstream.Is(err, http.StatusNotFound) && fault.Has(explained, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL) {
		return nil, files.NotFound(name) // the sandbox is there
	}
	return nil, explained
}

// Background implements files.Place.
func (p *place) Background(do func(context.Context)) { p.d.commands.Background(sideCall, do) }

// StatFile implements sdk.FileReader.
func (d *Driver) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.StatFile(ctx, req)
}

// ReadFile implements sdk.FileReader.
func (d *Driver) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.ReadFile(ctx, req, send)
}

// ListFiles implements sdk.FileReader.
func (d *Driver) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.ListFiles(ctx, req)
}

// WriteFile implements sdk.FileWriter.
func (d *Driver) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	b, err := d.files(ctx, open.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.WriteFile(ctx, open, content)
}

// MakeDirectory implements sdk.FileWriter.
func (d *Driver) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.MakeDirectory(ctx, req)
}

// RemoveFile implements sdk.FileWriter.
func (d *Driver) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.RemoveFile(ctx, req)
}

// MoveFile implements sdk.FileWriter.
func (d *Driver) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.MoveFile(ctx, req)
}

// DownloadArchive implements sdk.ArchiveDownloader.
func (d *Driver) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, tar io.Writer) error {
	b, err := d.files(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.DownloadArchive(ctx, req, tar)
}

// UploadArchive implements sdk.ArchiveUploader.
func (d *Driver) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, tar io.Reader) (*providerv1.UploadArchiveResponse, error) {
	b, err := d.files(ctx, open.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.UploadArchive(ctx, open, tar)
}
