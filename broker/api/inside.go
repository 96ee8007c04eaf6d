package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The calls that act inside a sandbox carry the contract's own messages.

func (h sandboxes) StartExec(ctx context.Context, req *connect.Request[providerv1.StartExecRequest]) (*connect.Response[providerv1.StartExecResponse], error) {
	return answer(h.s.StartExec(ctx, req.Msg))
}

func (h sandboxes) GetExec(ctx context.Context, req *connect.Request[providerv1.GetExecRequest]) (*connect.Response[providerv1.GetExecResponse], error) {
	return answer(h.s.GetExec(ctx, req.Msg))
}

func (h sandboxes) SignalExec(ctx context.Context, req *connect.Request[providerv1.SignalExecRequest]) (*connect.Response[providerv1.SignalExecResponse], error) {
	return answer(h.s.SignalExec(ctx, req.Msg))
}

func (h sandboxes) ListExecs(ctx context.Context, req *connect.Request[providerv1.ListExecsRequest]) (*connect.Response[providerv1.ListExecsResponse], error) {
	return answer(h.s.ListExecs(ctx, req.Msg))
}

func (h sandboxes) StatFile(ctx context.Context, req *connect.Request[providerv1.StatFileRequest]) (*connect.Response[providerv1.StatFileResponse], error) {
	return answer(h.s.StatFile(ctx, req.Msg))
}

func (h sandboxes) ListFiles(ctx context.Context, req *connect.Request[providerv1.ListFilesRequest]) (*connect.Response[providerv1.ListFilesResponse], error) {
	return answer(h.s.ListFiles(ctx, req.Msg))
}

func (h sandboxes) MakeDirectory(ctx context.Context, req *connect.Request[providerv1.MakeDirectoryRequest]) (*connect.Response[providerv1.MakeDirectoryResponse], error) {
	return answer(h.s.MakeDirectory(ctx, req.Msg))
}

func (h sandboxes) RemoveFile(ctx context.Context, req *connect.Request[providerv1.RemoveFileRequest]) (*connect.Response[providerv1.RemoveFileResponse], error) {
	return answer(h.s.RemoveFile(ctx, req.Msg))
}

func (h sandboxes) MoveFile(ctx context.Context, req *connect.Request[providerv1.MoveFileRequest]) (*connect.Response[providerv1.MoveFileResponse], error) {
	return answer(h.s.MoveFile(ctx, req.Msg))
}

func (h sandboxes) ListPorts(ctx context.Context, req *connect.Request[providerv1.ListPortsRequest]) (*connect.Response[providerv1.ListPortsResponse], error) {
	return answer(h.s.ListPorts(ctx, req.Msg))
}

func (h sandboxes) GetUsage(ctx context.Context, req *connect.Request[providerv1.GetUsageRequest]) (*connect.Response[providerv1.GetUsageResponse], error) {
	return answer(h.s.GetUsage(ctx, req.Msg))
}

func (h sandboxes) ReadFile(ctx context.Context, req *connect.Request[providerv1.ReadFileRequest], out *connect.ServerStream[providerv1.ReadFileResponse]) error {
	return h.s.ReadFile(ctx, req.Msg, sender(out))
}

func (h sandboxes) DiffFiles(ctx context.Context, req *connect.Request[providerv1.DiffFilesRequest], out *connect.ServerStream[providerv1.DiffFilesResponse]) error {
	return h.s.DiffFiles(ctx, req.Msg, sender(out))
}

func (h sandboxes) DownloadArchive(ctx context.Context, req *connect.Request[providerv1.DownloadArchiveRequest], out *connect.ServerStream[providerv1.DownloadArchiveResponse]) error {
	return h.s.DownloadArchive(ctx, req.Msg, sender(out))
}

func (h sandboxes) WriteFile(ctx context.Context, in *connect.ClientStream[providerv1.WriteFileRequest]) (*connect.Response[providerv1.WriteFileResponse], error) {
	return answer(h.s.WriteFile(ctx, receiver(in)))
}

func (h sandboxes) UploadArchive(ctx context.Context, in *connect.ClientStream[providerv1.UploadArchiveRequest]) (*connect.Response[providerv1.UploadArchiveResponse], error) {
	return answer(h.s.UploadArchive(ctx, receiver(in)))
}

func (h sandboxes) AttachExec(ctx context.Context, client *connect.BidiStream[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	return h.s.AttachExec(ctx, both(client, controllerOf(ctx)))
}

func (h sandboxes) OpenTunnel(ctx context.Context, client *connect.BidiStream[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]) error {
	return h.s.OpenTunnel(ctx, both(client, controllerOf(ctx)))
}

func (h sandboxes) WatchEvents(ctx context.Context, req *connect.Request[brokerv1.WatchEventsRequest], out *connect.ServerStream[brokerv1.WatchEventsResponse]) error {
	return h.s.WatchEvents(ctx, req.Msg, out)
}

// messages gives a client stream the shape of the other streams.
type messages[In any] struct{ stream *connect.ClientStream[In] }

func (r messages[In]) Receive() (*In, error) {
	if r.stream.Receive() {
		return r.stream.Msg(), nil
	}
	if err := r.stream.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// bidi adds a way out of a Receive to a stream.
type bidi[In, Out any] struct {
	*connect.BidiStream[In, Out]
	controller *http.ResponseController
}

// StopReceiving lets the read deadline of the request pass. On HTTP/2 that ends
// the reading of this one stream.
func (b bidi[In, Out]) StopReceiving() {
	// It fails only where there are no deadlines: on connections that cannot carry
	// a stream both ways, which Connect has refused.
	_ = b.controller.SetReadDeadline(time.Unix(1, 0))
}

type controllerKey struct{}

// withController lets handlers reach the connection's deadlines.
func withController(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), controllerKey{}, http.NewResponseController(w))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func controllerOf(ctx context.Context) *http.ResponseController {
	c, _ := ctx.Value(controllerKey{}).(*http.ResponseController)
	return c
}
