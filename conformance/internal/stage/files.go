package stage

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// TryWrite writes a file and returns what the provider answered.
func (b *Box) TryWrite(open *providerv1.WriteFileOpen, content []byte) (*providerv1.FileInfo, error) {
	open.Sandbox = b.Ref
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	stream, err := b.client.WriteFile(ctx)
	if err != nil {
		return nil, err
	}
	// An error of Send is io.EOF; what it was is told by CloseAndRecv.
	ok := stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: open}}) == nil
	for len(content) > 0 && ok {
		n := min(len(content), handshake.FrameBytes)
		ok = stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: content[:n]}}) == nil
		content = content[n:]
	}
	if ok {
		_ = stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}})
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetInfo(), err
}

// Write replaces a file, and makes the folders it needs.
func (b *Box) Write(path string, content []byte) *providerv1.FileInfo {
	info, err := b.TryWrite(&providerv1.WriteFileOpen{Path: path, MakeParents: true}, content)
	OK(b.t, "WriteFile of "+path, err)
	return info
}

// TryRead reads a file and returns what came.
func (b *Box) TryRead(req *providerv1.ReadFileRequest) (*providerv1.FileInfo, []byte, error) {
	req.Sandbox = b.Ref
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	stream, err := b.client.ReadFile(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	var info *providerv1.FileInfo
	var content []byte
	for first := true; ; first = false {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return info, content, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if (resp.GetInfo() != nil) != first {
			b.t.Errorf("ReadFile: frame with info=%v: want it in the first frame, and only there", resp.GetInfo() != nil)
		}
		if resp.GetInfo() != nil {
			info = resp.GetInfo()
		}
		content = append(content, resp.GetData()...)
	}
}

// Read reads a whole file.
func (b *Box) Read(path string) []byte {
	_, content, err := b.TryRead(&providerv1.ReadFileRequest{Path: path})
	OK(b.t, "ReadFile of "+path, err)
	return content
}

// SameContent checks that a file has a content.
func (b *Box) SameContent(path string, want []byte) {
	if got := b.Read(path); !bytes.Equal(got, want) {
		b.t.Errorf("ReadFile of %q gives %s: want %s", path, Excerpt(got), Excerpt(want))
	}
}

// Stat asks for a file's information.
func (b *Box) Stat(path string, follow bool) *providerv1.FileInfo {
	resp, err := b.client.StatFile(b.t.Context(), &providerv1.StatFileRequest{Sandbox: b.Ref, Path: path, Follow: follow})
	OK(b.t, "StatFile of "+path, err)
	return resp.GetInfo()
}

// List lists a folder in pages.
func (b *Box) List(path string, recursive bool, pageSize int32) []*providerv1.FileInfo {
	req := &providerv1.ListFilesRequest{Sandbox: b.Ref, Path: path, Recursive: recursive, PageSize: pageSize}
	var out []*providerv1.FileInfo
	for {
		resp, err := b.client.ListFiles(b.t.Context(), req)
		OK(b.t, "ListFiles of "+path, err)
		if pageSize > 0 && len(resp.GetFiles()) > int(pageSize) {
			b.t.Errorf("a page has %d files: want at most %d", len(resp.GetFiles()), pageSize)
		}
		out = append(out, resp.GetFiles()...)
		if resp.GetNextPageToken() == "" {
			return out
		}
		if resp.GetNextPageToken() == req.GetPageToken() {
			b.t.Fatalf("the next page's token is the one that was sent: the list never ends")
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

// Download gets an archive.
func (b *Box) Download(paths ...string) ([]byte, error) {
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	stream, err := b.client.DownloadArchive(ctx, &providerv1.DownloadArchiveRequest{Sandbox: b.Ref, Paths: paths})
	if err != nil {
		return nil, err
	}
	var out []byte
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, resp.GetData()...)
	}
}

// Upload unpacks an archive.
func (b *Box) Upload(open *providerv1.UploadArchiveOpen, tar []byte) (*providerv1.UploadArchiveResponse, error) {
	open.Sandbox = b.Ref
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	stream, err := b.client.UploadArchive(ctx)
	if err != nil {
		return nil, err
	}
	ok := stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Open{Open: open}}) == nil
	for len(tar) > 0 && ok {
		n := min(len(tar), handshake.FrameBytes)
		ok = stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Data{Data: tar[:n]}}) == nil
		tar = tar[n:]
	}
	return stream.CloseAndRecv()
}

// Diff lists what the sandbox changed.
func (b *Box) Diff(mount string) []*providerv1.FileChange {
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	stream, err := b.client.DiffFiles(ctx, &providerv1.DiffFilesRequest{Sandbox: b.Ref, MountTarget: mount})
	OK(b.t, "DiffFiles", err)
	var out []*providerv1.FileChange
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			b.t.Fatalf("DiffFiles: %s: want the changes", subject.Describe(err))
		}
		out = append(out, resp.GetChanges()...)
	}
}
