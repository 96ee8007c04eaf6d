package local

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// inside returns a client of a running sandbox's shim. The happy path does not
// read the record, it only looks whether there is one: a shim that is gone shows as an error of
// the call, which shimError then explains. A shim that is gone before anything was
// sent to it is told here, since then it is certain that nothing has happened.
func (d *Driver) inside(ref *providerv1.SandboxRef) (providerv1.ProviderServiceClient, func(error) error, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, nil, err
	}
	id := ref.GetSandboxId()
	explain := func(err error) error { return d.shimError(store, id, err) }
	if !store.HasSandbox(id) {
		return nil, nil, notFound(id)
	}
	if !d.shims.has(id) {
		if err := d.awake(store, id); err != nil {
			return nil, nil, err
		}
	}
	client, err := d.shims.client(id, store.SandboxDir(id))
	if err != nil {
		return nil, nil, internal(providerv1.Effect_EFFECT_NONE, "reach sandbox: %w", err)
	}
	return client, explain, nil
}

// awake refuses a sandbox that has no shim.
func (d *Driver) awake(store *record.Store, id string) error {
	if alive, err := shim.Alive(store.SandboxDir(id)); err != nil || alive {
		return nil //nolint:nilerr // the call will tell
	}
	sb, err := d.current(store, id)
	if err != nil {
		return err
	}
	if sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil // it has been resumed meanwhile
	}
	return notRunning(sb).WithEffect(providerv1.Effect_EFFECT_NONE)
}

// shimError explains an error from a shim: its own words pass, and a connection
// that failed is explained by the state of the sandbox.
func (d *Driver) shimError(store *record.Store, id string, err error) error {
	if err == nil {
		return nil
	}
	e := fault.From(err)
	if e.Wire || e.Reason != providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE {
		return e
	}
	alive, aerr := shim.Alive(store.SandboxDir(id))
	if aerr != nil {
		return e
	}
	if !alive {
		d.shims.drop(id)
	}
	// One that is alive may be about to end: it has written why then, and listens no
	// more.
	sb, serr := d.current(store, id)
	if serr != nil {
		return serr
	}
	if sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return e
	}
	return notRunning(sb).WithEffect(e.Effect)
}

// unary hands a call on.
func unary[Req, Resp any](ctx context.Context, d *Driver, ref *providerv1.SandboxRef, req Req,
	call func(providerv1.ProviderServiceClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (Resp, error) {
	var none Resp
	client, explain, err := d.inside(ref)
	if err != nil {
		return none, err
	}
	resp, err := call(client, ctx, req)
	if err != nil {
		return none, explain(err)
	}
	return resp, nil
}

type client = providerv1.ProviderServiceClient

// StartExec implements sdk.ExecServer.
func (d *Driver) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.StartExec)
}

// GetExec implements sdk.ExecServer.
func (d *Driver) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.GetExec)
}

// SignalExec implements sdk.ExecServer.
func (d *Driver) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.SignalExec)
}

// ListExecs implements sdk.ExecServer.
func (d *Driver) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.ListExecs)
}

// AttachExec implements sdk.ExecServer: behind the first, frames pass in both
// directions as they are, undecoded, one goroutine for each.
func (d *Driver) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	client, explain, err := d.inside(first.GetInput().GetOpen().GetSandbox())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	up, err := client.AttachExec(ctx, relay.Call())
	if err != nil {
		return explain(err)
	}
	go func() {
		err := up.Send(first)
		if err == nil {
			err = relay.Copy(up, stream)
		}
		switch {
		case err == nil:
			_ = up.CloseSend() // never fails; see grpc.ClientStream
		case !errors.Is(err, io.EOF): // after which the other direction tells why
			cancel(err)
		}
	}()
	err = relay.Copy(stream, up)
	if refused := context.Cause(ctx); refused != nil && stream.Context().Err() == nil {
		err = refused
	}
	// The sender ends when the caller's stream does, which is when this returns;
	// waiting for it here would wait for the caller.
	return explain(err)
}

// forward passes messages on until the source ends.
func forward[M any](recv func() (M, error), send func(M) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
	}
}

// ReadFile implements sdk.FileReader.
func (d *Driver) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	stream, err := unary(ctx, d, req.GetSandbox(), req, client.ReadFile)
	if err != nil {
		return err
	}
	return d.explained(req.GetSandbox(), forward(stream.Recv, send))
}

// explained is shimError for streams.
func (d *Driver) explained(ref *providerv1.SandboxRef, err error) error {
	store, _, oerr := d.open()
	if err == nil || oerr != nil {
		return err
	}
	return d.shimError(store, ref.GetSandboxId(), err)
}

// StatFile implements sdk.FileReader.
func (d *Driver) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	resp, err := unary(ctx, d, req.GetSandbox(), req, client.StatFile)
	return resp.GetInfo(), err
}

// ListFiles implements sdk.FileReader.
func (d *Driver) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.ListFiles)
}

// WriteFile implements sdk.FileWriter.
func (d *Driver) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	client, explain, err := d.inside(open.GetSandbox())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.WriteFile(ctx)
	if err != nil {
		return nil, explain(err)
	}
	err = stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: open}})
	if err == nil {
		err = sendFrames(content, func(p []byte) error {
			return stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: p}})
		})
	}
	var source *sourceError
	if errors.As(err, &source) {
		// Without a commit nothing changes. The shim answers when the guest has
		// put away what it had of the file.
		_, _ = stream.CloseAndRecv()
		return nil, source.err
	}
	if err == nil {
		_ = stream.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}})
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, explain(err)
	}
	return resp.GetInfo(), nil
}

// sourceError is an error of the reader that frames are made from, as opposed to
// one of the stream they go to.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// frameBytes is the payload of a frame to the shim.
const frameBytes = 32 << 10

// sendFrames sends what src holds, in frames, until it ends. A stream that fails
// ends the sending without an error: its own end tells more.
func sendFrames(src io.Reader, send func([]byte) error) error {
	buf := make([]byte, frameBytes) // sending encodes it, so that it can be used again
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 && send(buf[:n]) != nil {
			return nil //nolint:nilerr // the stream's end carries the reason
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && n < frameBytes:
			// ReadFull's word for a short last frame, or the source's own for a
			// stream that was cut: one more read tells.
			if _, err := src.Read(buf[:1]); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return &sourceError{err}
			}
			return &sourceError{io.ErrUnexpectedEOF}
		case err != nil:
			return &sourceError{err}
		}
	}
}

// MakeDirectory implements sdk.FileWriter.
func (d *Driver) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	_, err := unary(ctx, d, req.GetSandbox(), req, client.MakeDirectory)
	return err
}

// RemoveFile implements sdk.FileWriter.
func (d *Driver) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.RemoveFile)
}

// MoveFile implements sdk.FileWriter.
func (d *Driver) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	_, err := unary(ctx, d, req.GetSandbox(), req, client.MoveFile)
	return err
}

// DiffFiles implements sdk.Differ.
func (d *Driver) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error {
	stream, err := unary(ctx, d, req.GetSandbox(), req, client.DiffFiles)
	if err != nil {
		return err
	}
	return d.explained(req.GetSandbox(), forward(stream.Recv, func(m *providerv1.DiffFilesResponse) error { return send(m.GetChanges()) }))
}

// DownloadArchive implements sdk.ArchiveDownloader.
func (d *Driver) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, out io.Writer) error {
	stream, err := unary(ctx, d, req.GetSandbox(), req, client.DownloadArchive)
	if err != nil {
		return err
	}
	return d.explained(req.GetSandbox(), forward(stream.Recv, func(m *providerv1.DownloadArchiveResponse) error {
		_, err := out.Write(m.GetData())
		return err
	}))
}

// UploadArchive implements sdk.ArchiveUploader.
func (d *Driver) UploadArchive(ctx context.Context, open *providerv1.UploadArchiveOpen, in io.Reader) (*providerv1.UploadArchiveResponse, error) {
	client, explain, err := d.inside(open.GetSandbox())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.UploadArchive(ctx)
	if err != nil {
		return nil, explain(err)
	}
	err = stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Open{Open: open}})
	if err == nil {
		err = sendFrames(in, func(p []byte) error {
			return stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Data{Data: p}})
		})
	}
	var source *sourceError
	if errors.As(err, &source) {
		return nil, source.err
	}
	resp, err := stream.CloseAndRecv()
	return resp, explain(err)
}

// ListPorts implements sdk.PortLister.
func (d *Driver) ListPorts(ctx context.Context, req *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	return unary(ctx, d, req.GetSandbox(), req, client.ListPorts)
}

// GetUsage implements sdk.UsageReader. A paused sandbox uses what its shim wrote
// down when it was paused.
func (d *Driver) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.Usage, error) {
	resp, err := unary(ctx, d, req.GetSandbox(), req, client.GetUsage)
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING) {
		return resp.GetUsage(), err
	}
	store, _, oerr := d.open()
	if oerr != nil {
		return nil, oerr
	}
	rec, rerr := store.Sandbox(req.GetSandbox().GetSandboxId())
	if rerr != nil || rec.Sandbox.GetState() != providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		return nil, err
	}
	return rec.Usage, nil
}

var (
	_ sdk.ExecServer        = (*Driver)(nil)
	_ sdk.FileReader        = (*Driver)(nil)
	_ sdk.FileWriter        = (*Driver)(nil)
	_ sdk.Differ            = (*Driver)(nil)
	_ sdk.ArchiveDownloader = (*Driver)(nil)
	_ sdk.ArchiveUploader   = (*Driver)(nil)
	_ sdk.PortDialer        = (*Driver)(nil)
	_ sdk.PortLister        = (*Driver)(nil)
	_ sdk.UsageReader       = (*Driver)(nil)
	_ sdk.LifetimeExtender  = (*Driver)(nil)
	_ sdk.Pauser            = (*Driver)(nil)
	_ sdk.Snapshotter       = (*Driver)(nil)
	_ sdk.Forker            = (*Driver)(nil)
	_ sdk.VolumeKeeper      = (*Driver)(nil)
)
