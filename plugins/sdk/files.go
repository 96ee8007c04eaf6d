package sdk

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func (x *service) ReadFile(req *providerv1.ReadFileRequest, stream grpc.ServerStreamingServer[providerv1.ReadFileResponse]) error {
	first := true
	send := func(r *providerv1.ReadFileResponse) error {
		if first != (r.GetInfo() != nil) {
			return bug("the driver must send info with the first frame and only there")
		}
		data := r.GetData()
		for first || len(data) > 0 {
			n := min(len(data), handshake.FrameBytes)
			frame := &providerv1.ReadFileResponse{Data: data[:n]}
			if first {
				frame.Info = r.GetInfo()
			}
			if err := stream.Send(frame); err != nil {
				return err
			}
			first, data = false, data[n:]
		}
		return nil
	}
	if err := as[FileReader](x).ReadFile(stream.Context(), req, send); err != nil {
		return err
	}
	if first {
		return bug("the driver sent no info")
	}
	return nil
}

func (x *service) WriteFile(stream grpc.ClientStreamingServer[providerv1.WriteFileRequest, providerv1.WriteFileResponse]) error {
	req, err := stream.Recv()
	if err != nil {
		return firstFrame(err, "open")
	}
	content := &frameReader{next: func() ([]byte, error) { return writeData(stream.Recv()) }}
	info, err := as[FileWriter](x).WriteFile(stream.Context(), req.GetOpen(), content)
	switch {
	case content.refused != nil:
		return content.refused // the driver saw only a failed read
	case err != nil:
		return err
	case !errors.Is(content.err, io.EOF):
		return bug("the driver accepted content before its end").WithEffect(providerv1.Effect_EFFECT_APPLIED)
	case info == nil:
		return bug("the driver returned neither an answer nor an error")
	}
	return stream.SendAndClose(&providerv1.WriteFileResponse{Info: info})
}

// writeData returns the content of a frame; io.EOF is a commit, and a stream
// that ends without one is cut.
func writeData(req *providerv1.WriteFileRequest, err error) ([]byte, error) {
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch f := req.GetFrame().(type) {
	case *providerv1.WriteFileRequest_Data:
		return f.Data, nil
	case *providerv1.WriteFileRequest_Commit:
		return nil, io.EOF
	default:
		return nil, fault.Field("frame", "", "want data or commit after open")
	}
}

// firstFrame explains a stream that ended before its first frame.
func firstFrame(err error, want string) error {
	if errors.Is(err, io.EOF) {
		return fault.Field(want, "", "the stream ended; want "+want+" as the first frame")
	}
	return err
}

// frameReader is the content of a client's stream. It is used by one goroutine.
type frameReader struct {
	next func() ([]byte, error)
	rest []byte
	// err is what ended the content; refused is set when the client broke the
	// protocol.
	err     error
	refused error
}

// Read returns content until the client's commit, which is io.EOF.
func (r *frameReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.rest, r.err = r.next(); r.err != nil {
			r.rest = nil
			if carried(r.err) != nil || errors.Is(r.err, io.ErrUnexpectedEOF) {
				r.refuse()
			}
		} else if n := len(r.rest); n > handshake.FrameBytesHard {
			r.rest = nil
			r.err = fault.Field("data", strconv.Itoa(n)+" bytes", "want at most "+strconv.Itoa(handshake.FrameBytesHard)+" bytes in a frame")
			r.refuse()
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *frameReader) refuse() {
	r.refused = r.err
	if errors.Is(r.err, io.ErrUnexpectedEOF) {
		r.refused = fault.New(providerv1.ErrorReason_ERROR_REASON_CANCELED,
			"the stream ended without commit; nothing was replaced").WithEffect(providerv1.Effect_EFFECT_NONE)
	}
}

func (x *service) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.StatFileResponse, error) {
	info, err := answered(as[FileReader](x).StatFile(ctx, req))
	if err != nil {
		return nil, err
	}
	return &providerv1.StatFileResponse{Info: info}, nil
}

func (x *service) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	return answered(as[FileReader](x).ListFiles(ctx, req))
}

func (x *service) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) (*providerv1.MakeDirectoryResponse, error) {
	if err := as[FileWriter](x).MakeDirectory(ctx, req); err != nil {
		return nil, err
	}
	return &providerv1.MakeDirectoryResponse{}, nil
}

func (x *service) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	return answered(as[FileWriter](x).RemoveFile(ctx, req))
}

func (x *service) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) (*providerv1.MoveFileResponse, error) {
	if err := as[FileWriter](x).MoveFile(ctx, req); err != nil {
		return nil, err
	}
	return &providerv1.MoveFileResponse{}, nil
}

func (x *service) DiffFiles(req *providerv1.DiffFilesRequest, stream grpc.ServerStreamingServer[providerv1.DiffFilesResponse]) error {
	return as[Differ](x).DiffFiles(stream.Context(), req, func(changes []*providerv1.FileChange) error {
		return stream.Send(&providerv1.DiffFilesResponse{Changes: changes})
	})
}

func (x *service) DownloadArchive(req *providerv1.DownloadArchiveRequest, stream grpc.ServerStreamingServer[providerv1.DownloadArchiveResponse]) error {
	frames := writerFunc(func(p []byte) error { return stream.Send(&providerv1.DownloadArchiveResponse{Data: p}) })
	// A tar writer writes 512 bytes at a time.
	buffered := bufio.NewWriterSize(frames, handshake.FrameBytes)
	if err := as[ArchiveDownloader](x).DownloadArchive(stream.Context(), req, buffered); err != nil {
		return err
	}
	return buffered.Flush()
}

// writerFunc sends what is written in frames.
type writerFunc func(p []byte) error

func (f writerFunc) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, handshake.FrameBytes)
		if err := f(p[sent : sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

func (x *service) UploadArchive(stream grpc.ClientStreamingServer[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse]) error {
	req, err := stream.Recv()
	if err != nil {
		return firstFrame(err, "open")
	}
	content := &frameReader{next: func() ([]byte, error) {
		req, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if f, ok := req.GetFrame().(*providerv1.UploadArchiveRequest_Data); ok {
			return f.Data, nil
		}
		return nil, fault.Field("frame", "", "want data after open")
	}}
	resp, err := answered(as[ArchiveUploader](x).UploadArchive(stream.Context(), req.GetOpen(), content))
	if content.refused != nil {
		return content.refused
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(resp)
}
