package broker

import (
	"context"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The calls that act inside a sandbox. They take the contract's requests with
// the sandbox's id or name in sandbox_id, and may change them. Errors are the
// provider's own, or say why the sandbox cannot be used.

// StartExec starts a command. The broker chooses an exec id where the client did
// not.
func (s *Service) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	if req.GetExecId() == "" {
		req.ExecId = newExecID()
	}
	return forwardOne(ctx, s, &req.Sandbox, req,
		func(c client, ctx context.Context, req *providerv1.StartExecRequest, opts ...grpc.CallOption) (*providerv1.StartExecResponse, error) {
			req.RequestDigest = provider.Digest(req) // of the reference that is sent
			return c.StartExec(ctx, req, opts...)
		})
}

// AttachExec carries a command's streams. When the client leaves, the command
// goes on.
func (s *Service) AttachExec(ctx context.Context, stream BidiStream[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return clientGone(ctx, err)
	}
	open := first.GetInput().GetOpen()
	if open == nil {
		return fault.Field("input", "", "want open as the first frame")
	}
	return forwardBidi(ctx, s, telemetry.ExecStream, &open.Sandbox, first, stream, bulkOfAttach, client.AttachExec)
}

// OpenTunnel carries one connection to a port inside.
func (s *Service) OpenTunnel(ctx context.Context, stream BidiStream[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return clientGone(ctx, err)
	}
	target := first.GetFrame().GetOpen().GetPort()
	if target == nil {
		return fault.Field("frame", "", "want open with a port as the first frame")
	}
	return forwardBidi(ctx, s, telemetry.TunnelStream, &target.Sandbox, first, stream, bulkOfTunnel, client.OpenTunnel)
}

// GetExec returns one command.
func (s *Service) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.GetExec)
}

// SignalExec signals a command.
func (s *Service) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.SignalExec)
}

// ListExecs lists commands.
func (s *Service) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.ListExecs)
}

// StatFile describes a file.
func (s *Service) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.StatFileResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.StatFile)
}

// ListFiles lists a folder.
func (s *Service) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.ListFiles)
}

// MakeDirectory makes a folder.
func (s *Service) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) (*providerv1.MakeDirectoryResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.MakeDirectory)
}

// RemoveFile removes a file or folder.
func (s *Service) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.RemoveFile)
}

// MoveFile renames a file or folder.
func (s *Service) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) (*providerv1.MoveFileResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.MoveFile)
}

// ListPorts lists what listens inside.
func (s *Service) ListPorts(ctx context.Context, req *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	return forwardOne(ctx, s, &req.Sandbox, req, client.ListPorts)
}

// GetUsage returns consumption, in any state. To look at the meter is no use of
// the sandbox: it neither wakes one that is paused nor keeps one from becoming
// idle.
func (s *Service) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.GetUsageResponse, error) {
	sb, p, err := s.lookup(ctx, req.GetSandbox())
	if err != nil {
		return nil, err
	}
	req.Sandbox = sb.Ref()
	resp, err := p.GetUsage(ctx, req)
	if err != nil {
		return nil, withID(err, sb.ID())
	}
	return resp, nil
}

// ReadFile sends a file.
func (s *Service) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, out Sender[providerv1.ReadFileResponse]) error {
	return forwardDown(ctx, s, telemetry.FileStream, &req.Sandbox, req, out, client.ReadFile)
}

// DiffFiles sends what the sandbox changed.
func (s *Service) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, out Sender[providerv1.DiffFilesResponse]) error {
	return forwardDown(ctx, s, telemetry.FileStream, &req.Sandbox, req, out, client.DiffFiles)
}

// DownloadArchive sends files as tar.
func (s *Service) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, out Sender[providerv1.DownloadArchiveResponse]) error {
	return forwardDown(ctx, s, telemetry.ArchiveStream, &req.Sandbox, req, out, client.DownloadArchive)
}

// WriteFile takes a file.
func (s *Service) WriteFile(ctx context.Context, in Receiver[providerv1.WriteFileRequest]) (*providerv1.WriteFileResponse, error) {
	first, err := in.Receive()
	if err != nil {
		return nil, clientGone(ctx, err)
	}
	open := first.GetOpen()
	if open == nil {
		return nil, fault.Field("frame", "", "want open as the first frame")
	}
	return forwardUp(ctx, s, telemetry.FileStream, &open.Sandbox, first, in, bulkOfWrite, client.WriteFile)
}

// UploadArchive takes a tar.
func (s *Service) UploadArchive(ctx context.Context, in Receiver[providerv1.UploadArchiveRequest]) (*providerv1.UploadArchiveResponse, error) {
	first, err := in.Receive()
	if err != nil {
		return nil, clientGone(ctx, err)
	}
	open := first.GetOpen()
	if open == nil {
		return nil, fault.Field("frame", "", "want open as the first frame")
	}
	return forwardUp(ctx, s, telemetry.ArchiveStream, &open.Sandbox, first, in, bulkOfUpload, client.UploadArchive)
}
