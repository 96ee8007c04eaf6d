package transfer_test

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// mortal is a process that dies at some call: it, and all after it, fail, and what
// the process would do then is not done.
type mortal struct {
	*world
	mu sync.Mutex
	// left is how many calls it still makes; the last one takes effect if late.
	left int
	late bool
}

var errDead = errors.New("the process is dead")

// call makes a call, if the process lives.
func call[T any](m *mortal, f func() (T, error)) (T, error) {
	m.mu.Lock()
	m.left--
	left := m.left
	m.mu.Unlock()
	var none T
	switch {
	case left > 0:
		return f()
	case left == 0 && m.late:
		_, _ = f()
	}
	return none, errDead
}

func (m *mortal) Create(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	return call(m, func() (*brokerv1.Sandbox, error) { return m.world.Create(ctx, req) })
}

func (m *mortal) Delete(ctx context.Context, sandbox, survivor, name string) error {
	_, err := call(m, func() (struct{}, error) { return struct{}{}, m.world.Delete(ctx, sandbox, survivor, name) })
	return err
}

func (m *mortal) Labelled(ctx context.Context, key, value string) ([]*brokerv1.Sandbox, error) {
	return call(m, func() ([]*brokerv1.Sandbox, error) { return m.world.Labelled(ctx, key, value) })
}

// mortalFiles are the calls of a mortal about files.
type mortalFiles struct{ *mortal }

var _ transfer.Files = mortalFiles{}

func (m mortalFiles) DownloadArchive(ctx context.Context, req *connect.Request[providerv1.DownloadArchiveRequest]) (*connect.ServerStreamForClient[providerv1.DownloadArchiveResponse], error) {
	return call(m.mortal, func() (*connect.ServerStreamForClient[providerv1.DownloadArchiveResponse], error) {
		return m.client.DownloadArchive(ctx, req)
	})
}

func (m mortalFiles) UploadArchive(ctx context.Context) *connect.ClientStreamForClient[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse] {
	s, err := call(m.mortal, func() (*connect.ClientStreamForClient[providerv1.UploadArchiveRequest, providerv1.UploadArchiveResponse], error) {
		return m.client.UploadArchive(ctx), nil
	})
	if err != nil {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		return m.client.UploadArchive(dead)
	}
	return s
}

func (m mortalFiles) DiffFiles(ctx context.Context, req *connect.Request[providerv1.DiffFilesRequest]) (*connect.ServerStreamForClient[providerv1.DiffFilesResponse], error) {
	return call(m.mortal, func() (*connect.ServerStreamForClient[providerv1.DiffFilesResponse], error) {
		return m.client.DiffFiles(ctx, req)
	})
}
