// The command vendor is the fake provider under the name that its file has, so
// that a broker can have several. Two names do harm to the streams of commands: a
// cutter cuts each of them after a while, and a loser also has lost some output
// when the next one comes. A remote has its sandboxes in a process that several
// brokers reach.
package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type named struct {
	*fake.Driver
	name string
}

// Describe implements sdk.Driver.
func (n named) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	d, err := n.Driver.Describe(ctx)
	if err == nil {
		d.Name = n.name
	}
	return d, err
}

// harmful serves the streams of commands itself.
type harmful struct {
	named
	table *exec.Table
}

// StartExec implements sdk.ExecServer.
func (h harmful) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	e, err := h.table.Start(ctx, key, req.GetRequestDigest(), req.GetSpec(), func(ctx context.Context) (sdk.Process, error) {
		return h.StartProcess(ctx, req.GetSandbox(), req.GetExecId(), req.GetSpec())
	})
	return &providerv1.StartExecResponse{Exec: e}, err
}

// GetExec implements sdk.ExecServer.
func (h harmful) GetExec(_ context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	e, err := h.table.Get(exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()})
	return &providerv1.GetExecResponse{Exec: e}, err
}

// SignalExec implements sdk.ExecServer.
func (h harmful) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	key := exec.Key{Sandbox: req.GetSandbox().GetSandboxId(), Exec: req.GetExecId()}
	return &providerv1.SignalExecResponse{}, h.table.Signal(ctx, key, req.GetSignal())
}

// ListExecs implements sdk.ExecServer.
func (h harmful) ListExecs(_ context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return &providerv1.ListExecsResponse{Execs: h.table.List(req.GetSandbox().GetSandboxId())}, nil
}

// AttachExec implements sdk.ExecServer.
func (h harmful) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	c := &cut{BidiStreamingServer: stream, left: 1 + rand.N(64), loses: h.name == "loser"}
	err := h.table.Attach(c, func(*providerv1.ExecInput) error { return nil })
	if c.left == 0 {
		return errCut()
	}
	return err
}

func errCut() error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the stream to the vendor was cut")
}

// cut is a stream that ends after so many frames to the client.
type cut struct {
	grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
	left  int
	loses bool
}

// Send is called by one goroutine.
func (c *cut) Send(out *providerv1.AttachExecResponse) error {
	if c.left--; c.left <= 0 {
		c.left = 0
		return errCut()
	}
	return c.BidiStreamingServer.Send(out)
}

// lost is how many bytes of output a loser has lost when a client comes back.
const lost = 1000

// Recv is called by one goroutine.
func (c *cut) Recv() (*providerv1.AttachExecRequest, error) {
	req, err := c.BidiStreamingServer.Recv()
	open := req.GetInput().GetOpen()
	if err != nil || !c.loses || open.GetStdoutFrom() <= 0 {
		return req, err
	}
	if !open.GetFromOldest() {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED, "byte %d is gone", open.GetStdoutFrom()).
			With("oldest_offset", "unknown")
	}
	open.StdoutFrom += lost
	return req, nil
}

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "sandbar-provider-")
	if name == "remote" {
		sdk.Serve(&remote{}, sdk.Options{})
		return
	}
	n := named{fake.New(fake.Options{Version: "1.0.0"}), name}
	if name == "cutter" || name == "loser" {
		sdk.Serve(harmful{n, exec.NewTable(exec.Options{})}, sdk.Options{})
		return
	}
	sdk.Serve(n, sdk.Options{})
}
