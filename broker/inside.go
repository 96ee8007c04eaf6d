package broker

import (
	"context"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
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
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.StartExecResponse, error) {
		req.Sandbox = l.ref
		req.RequestDigest = provider.Digest(req)
		return l.StartExec(ctx, req)
	})
}

// AttachExec carries a command's streams. When the client leaves, the command
// goes on.
func (s *Service) AttachExec(ctx context.Context, client BidiStream[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	first, err := client.Receive()
	if err != nil {
		return clientGone(ctx, err)
	}
	open := first.GetInput().GetOpen()
	if open == nil {
		return fault.Field("input", "", "want open as the first frame")
	}
	return forwardBidi(ctx, s, &open.Sandbox, first, client, bulkOfAttach,
		func(ctx context.Context, l *lease) (grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse], error) {
			return l.AttachExec(ctx, relay.Call())
		})
}

// OpenTunnel carries one connection to a port inside.
func (s *Service) OpenTunnel(ctx context.Context, client BidiStream[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	first, err := client.Receive()
	if err != nil {
		return clientGone(ctx, err)
	}
	target := first.GetFrame().GetOpen().GetPort()
	if target == nil {
		return fault.Field("frame", "", "want open with a port as the first frame")
	}
	return forwardBidi(ctx, s, &target.Sandbox, first, client, bulkOfTunnel,
		func(ctx context.Context, l *lease) (grpc.BidiStreamingClient[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse], error) {
			return l.OpenTunnel(ctx, relay.Call())
		})
}

// GetExec returns one command.
func (s *Service) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.GetExecResponse, error) {
		req.Sandbox = l.ref
		return l.GetExec(ctx, req)
	})
}

// SignalExec signals a command.
func (s *Service) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.SignalExecResponse, error) {
		req.Sandbox = l.ref
		return l.SignalExec(ctx, req)
	})
}

// ListExecs lists commands.
func (s *Service) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.ListExecsResponse, error) {
		req.Sandbox = l.ref
		return l.ListExecs(ctx, req)
	})
}

// StatFile describes a file.
func (s *Service) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.StatFileResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.StatFileResponse, error) {
		req.Sandbox = l.ref
		return l.StatFile(ctx, req)
	})
}

// ListFiles lists a folder.
func (s *Service) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.ListFilesResponse, error) {
		req.Sandbox = l.ref
		return l.ListFiles(ctx, req)
	})
}

// MakeDirectory makes a folder.
func (s *Service) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) (*providerv1.MakeDirectoryResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.MakeDirectoryResponse, error) {
		req.Sandbox = l.ref
		return l.MakeDirectory(ctx, req)
	})
}

// RemoveFile removes a file or folder.
func (s *Service) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.RemoveFileResponse, error) {
		req.Sandbox = l.ref
		return l.RemoveFile(ctx, req)
	})
}

// MoveFile renames a file or folder.
func (s *Service) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) (*providerv1.MoveFileResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.MoveFileResponse, error) {
		req.Sandbox = l.ref
		return l.MoveFile(ctx, req)
	})
}

// ListPorts lists what listens inside.
func (s *Service) ListPorts(ctx context.Context, req *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.ListPortsResponse, error) {
		req.Sandbox = l.ref
		return l.ListPorts(ctx, req)
	})
}

// GetUsage returns consumption.
func (s *Service) GetUsage(ctx context.Context, req *providerv1.GetUsageRequest) (*providerv1.GetUsageResponse, error) {
	return forwardOne(ctx, s, req.GetSandbox(), func(l *lease) (*providerv1.GetUsageResponse, error) {
		req.Sandbox = l.ref
		return l.GetUsage(ctx, req)
	})
}

// ReadFile sends a file.
func (s *Service) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, out Sender[providerv1.ReadFileResponse]) error {
	return forwardDown(ctx, s, req.GetSandbox(), out,
		func(ctx context.Context, l *lease) (grpc.ServerStreamingClient[providerv1.ReadFileResponse], error) {
			req.Sandbox = l.ref
			return l.ReadFile(ctx, req, relay.Call())
		})
}

// DiffFiles sends what the sandbox changed.
func (s *Service) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, out Sender[providerv1.DiffFilesResponse]) error {
	return forwardDown(ctx, s, req.GetSandbox(), out,
		func(ctx context.Context, l *lease) (grpc.ServerStreamingClient[providerv1.DiffFilesResponse], error) {
			req.Sandbox = l.ref
			return l.DiffFiles(ctx, req, relay.Call())
		})
}

// DownloadArchive sends files as tar.
func (s *Service) DownloadArchive(ctx context.Context, req *providerv1.DownloadArchiveRequest, out Sender[providerv1.DownloadArchiveResponse]) error {
	return forwardDown(ctx, s, req.GetSandbox(), out,
		func(ctx context.Context, l *lease) (grpc.ServerStreamingClient[providerv1.DownloadArchiveResponse], error) {
			req.Sandbox = l.ref
			return l.DownloadArchive(ctx, req, relay.Call())
		})
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
	return forwardUp(ctx, s, &open.Sandbox, first, in, bulkOfWrite,
		func(ctx context.Context, l *lease) (grpc.ClientStreamingClient[providerv1.WriteFileRequest, providerv1.WriteFileResponse], error) {
			return l.WriteFile(ctx, relay.Call())
		})
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
	return forwardUp(ctx, s, &open.Sandbox, first, in, bulkOfUpload,
		func(ctx context.Context, l *lease) (grpc.ClientStreamingClient[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse], error) {
			return l.UploadArchive(ctx, relay.Call())
		})
}
