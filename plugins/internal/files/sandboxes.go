package files

import (
	"context"
	"io"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Sandboxes finds the files of a sandbox. It is all that a driver of package sdk needs
// to be a FileReader, a FileWriter, an ArchiveDownloader and an ArchiveUploader: one
// that embeds it has their methods. Its errors are the contract's.
type Sandboxes func(ctx context.Context, ref *providerv1.SandboxRef) (*Sandbox, error)

// StatFile implements sdk.FileReader.
func (find Sandboxes) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.StatFile(ctx, req)
}

// ReadFile implements sdk.FileReader.
func (find Sandboxes) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.ReadFile(ctx, req, send)
}

// ListFiles implements sdk.FileReader.
func (find Sandboxes) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.ListFiles(ctx, req)
}

// WriteFile implements sdk.FileWriter.
func (find Sandboxes) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	b, err := find(ctx, open.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.WriteFile(ctx, open, content)
}

// MakeDirectory implements sdk.FileWriter.
func (find Sandboxes) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.MakeDirectory(ctx, req)
}

// RemoveFile implements sdk.FileWriter.
func (find Sandboxes) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.RemoveFile(ctx, req)
}

// MoveFile implements sdk.FileWriter.
func (find Sandboxes) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.MoveFile(ctx, req)
}

// DownloadArchive implements sdk.ArchiveDownloader.
func (find Sandboxes) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, tar io.Writer) error {
	b, err := find(ctx, req.GetSandbox())
	if err != nil {
		return err
	}
	return b.DownloadArchive(ctx, req, tar)
}

// UploadArchive implements sdk.ArchiveUploader.
func (find Sandboxes) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, tar io.Reader) (*providerv1.UploadArchiveResponse, error) {
	b, err := find(ctx, open.GetSandbox())
	if err != nil {
		return nil, err
	}
	return b.UploadArchive(ctx, open, tar)
}
