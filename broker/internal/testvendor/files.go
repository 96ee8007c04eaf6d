package testvendor

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Files are kept by sandbox id and path, nothing more.

func (v *Vendor) file(ref *providerv1.SandboxRef, path string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	data, ok := v.files[ref.GetSandboxId()+path]
	if !ok {
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%s does not exist", path)
	}
	return data, nil
}

// StatFile describes a file.
func (v *Vendor) StatFile(_ context.Context, req *providerv1.StatFileRequest) (*providerv1.StatFileResponse, error) {
	data, err := v.file(req.GetSandbox(), req.GetPath())
	return &providerv1.StatFileResponse{Info: &providerv1.FileInfo{Path: req.GetPath(), Size: int64(len(data))}}, err
}

// ReadFile sends a file in frames.
func (v *Vendor) ReadFile(req *providerv1.ReadFileRequest, out grpc.ServerStreamingServer[providerv1.ReadFileResponse]) error {
	data, err := v.file(req.GetSandbox(), req.GetPath())
	if err != nil {
		return err
	}
	info := &providerv1.FileInfo{Path: req.GetPath(), Size: int64(len(data))}
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), frame)
		if err := out.Send(&providerv1.ReadFileResponse{Info: info, Data: data[:n]}); err != nil {
			return err
		}
		data, info = data[n:], nil
	}
	return nil
}

// WriteFile replaces a file when it is committed.
func (v *Vendor) WriteFile(in grpc.ClientStreamingServer[providerv1.WriteFileRequest, providerv1.WriteFileResponse]) error {
	first, err := in.Recv()
	if err != nil {
		return err
	}
	var data []byte
	for {
		req, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return reason(providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, "the stream ended without commit")
		}
		if err != nil {
			return err
		}
		if req.GetCommit() != nil {
			break
		}
		data = append(data, req.GetData()...)
	}
	open := first.GetOpen()
	v.mu.Lock()
	v.files[open.GetSandbox().GetSandboxId()+open.GetPath()] = data
	v.mu.Unlock()
	return in.SendAndClose(&providerv1.WriteFileResponse{Info: &providerv1.FileInfo{Path: open.GetPath(), Size: int64(len(data))}})
}

// OpenTunnel echoes.
func (v *Vendor) OpenTunnel(stream grpc.BidiStreamingServer[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	opened := &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}}
	if err := stream.Send(&providerv1.OpenTunnelResponse{Frame: opened}); err != nil {
		return err
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&providerv1.OpenTunnelResponse{Frame: req.GetFrame()}); err != nil {
			return err
		}
	}
}
