package transfer

import (
	"context"
	"io"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// frame is the payload of one frame of an upload.
const frame = 32 << 10

// Files are the calls of the API that carry files.
type Files interface {
	DownloadArchive(context.Context, *connect.Request[providerv1.DownloadArchiveRequest]) (*connect.ServerStreamForClient[providerv1.DownloadArchiveResponse], error)
	UploadArchive(context.Context) *connect.ClientStreamForClient[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse]
	DiffFiles(context.Context, *connect.Request[providerv1.DiffFilesRequest]) (*connect.ServerStreamForClient[providerv1.DiffFilesResponse], error)
}

var _ Files = brokerv1connect.SandboxServiceClient(nil)

// Download reads the frames of an archive that is downloaded.
type Download struct {
	Stream *connect.ServerStreamForClient[providerv1.DownloadArchiveResponse]
	rest   []byte
}

// Read returns content until the broker ends the stream.
func (d *Download) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if !d.Stream.Receive() {
			if err := d.Stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		d.rest = d.Stream.Msg().GetData()
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// Upload gathers the bytes of an archive that is uploaded into frames. After io.EOF
// the answer to the call says what is wrong.
type Upload struct {
	Stream *connect.ClientStreamForClient[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse]
	buf    []byte
}

// Open sends the first frame.
func (u *Upload) Open(sandbox, folder string, keepOwners bool) error {
	return u.Stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Open{Open: &providerv1.UploadArchiveOpen{
		Sandbox: ref(sandbox), Path: folder, KeepOwners: keepOwners,
	}}})
}

// Write sends full frames and keeps the rest for Flush.
func (u *Upload) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(frame-len(u.buf), len(p))
		u.buf, p = append(u.buf, p[:take]...), p[take:]
		if len(u.buf) == frame {
			if err := u.Flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

// Flush sends what is gathered.
func (u *Upload) Flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	err := u.Stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Data{Data: u.buf}})
	u.buf = u.buf[:0]
	return err
}
