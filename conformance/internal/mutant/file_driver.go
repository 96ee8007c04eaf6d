package mutant

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// fileBugs is the reference driver with bugs in how it treats files; what is nil
// is as it was.
type fileBugs struct {
	*fake.Driver
	write    func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error)
	read     func(d *fake.Driver, ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error
	stat     func(*providerv1.StatFileRequest)
	mkdir    func(*providerv1.MakeDirectoryRequest)
	remove   func(d *fake.Driver, ctx context.Context, req *providerv1.RemoveFileRequest)
	move     func(d *fake.Driver, ctx context.Context, req *providerv1.MoveFileRequest) error
	twice    bool
	download func(*tar.Header)
	upload   func(d *fake.Driver, ctx context.Context, open *providerv1.UploadArchiveOpen, tar io.Reader) (*providerv1.UploadArchiveResponse, error)
}

// files makes the driver of a mutant.
func files(bugs fileBugs) func(*fake.Driver) sdk.Driver {
	return func(d *fake.Driver) sdk.Driver {
		own := bugs
		own.Driver = d
		return &own
	}
}

func (b *fileBugs) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	if b.write == nil {
		return b.Driver.WriteFile(ctx, open, content)
	}
	return b.write(b.Driver, ctx, clone(open), content)
}

func (b *fileBugs) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	if b.read == nil {
		return b.Driver.ReadFile(ctx, req, send)
	}
	return b.read(b.Driver, ctx, clone(req), send)
}

func (b *fileBugs) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	req = clone(req)
	if b.stat != nil {
		b.stat(req)
	}
	return b.Driver.StatFile(ctx, req)
}

func (b *fileBugs) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	req = clone(req)
	if b.mkdir != nil {
		b.mkdir(req)
	}
	return b.Driver.MakeDirectory(ctx, req)
}

func (b *fileBugs) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	if b.remove != nil {
		b.remove(b.Driver, ctx, req)
	}
	return b.Driver.RemoveFile(ctx, req)
}

func (b *fileBugs) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	if b.move == nil {
		return b.Driver.MoveFile(ctx, req)
	}
	return b.move(b.Driver, ctx, clone(req))
}

func (b *fileBugs) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error {
	return b.Driver.DiffFiles(ctx, req, func(changes []*providerv1.FileChange) error {
		err := send(changes)
		if b.twice && err == nil {
			err = send(changes)
		}
		return err
	})
}

func (b *fileBugs) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, out io.Writer) error {
	if b.download == nil {
		return b.Driver.DownloadArchive(ctx, req, out)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(b.Driver.DownloadArchive(ctx, req, w)) }()
	defer r.Close()
	return rewrite(out, r, func(h *tar.Header) bool { b.download(h); return true })
}

func (b *fileBugs) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) (*providerv1.UploadArchiveResponse, error) {
	if b.upload == nil {
		return b.Driver.UploadArchive(ctx, open, in)
	}
	return b.upload(b.Driver, ctx, clone(open), in)
}

// rewrite copies an archive, changing headers; change says whether an entry
// stays.
func rewrite(out io.Writer, in io.Reader, change func(*tar.Header) bool) error {
	r, w := tar.NewReader(in), tar.NewWriter(out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return w.Close()
		}
		if err != nil {
			return err
		}
		if !change(h) {
			continue
		}
		h.Format = tar.FormatUnknown
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil { //nolint:gosec // the suite's own archives
			return err
		}
	}
}

// uploaded unpacks an archive that was rewritten on its way.
func uploaded(change func(*tar.Header) bool) func(*fake.Driver, context.Context, *providerv1.UploadArchiveOpen, io.Reader) (*providerv1.UploadArchiveResponse, error) {
	return func(d *fake.Driver, ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) (*providerv1.UploadArchiveResponse, error) {
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.CloseWithError(rewrite(w, in, change))
		}()
		resp, err := d.UploadArchive(ctx, open, r)
		_ = r.Close()
		<-done
		return resp, err
	}
}
