package fake_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// rig is a served fake and a client of it.
type rig struct {
	providerv1.ProviderServiceClient
	t   *testing.T
	ctx context.Context
}

func serve(t *testing.T, conf *providerv1.ConfigureRequest) *rig {
	t.Helper()
	d := fake.New(fake.Options{})
	s, err := sdk.NewServer(d, sdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(sdk.ServerOptions()...)
	s.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		g.Stop()
		<-served
		s.Close()
		d.Close()
	})
	r := &rig{providerv1.NewProviderServiceClient(conn), t, ctx}
	if conf == nil {
		conf = &providerv1.ConfigureRequest{Owner: "brk_1"}
	}
	if _, err := r.Configure(ctx, conf); err != nil {
		t.Fatal(err)
	}
	return r
}

func ref(id string) *providerv1.SandboxRef { return &providerv1.SandboxRef{SandboxId: id} }

func op(seed string) *providerv1.Operation {
	sum := sha256.Sum256([]byte(seed))
	return &providerv1.Operation{IdempotencyKey: (strings.ReplaceAll(seed, "_", "") + strings.Repeat("A", 26))[:26], RequestDigest: sum[:]}
}

func identity(id string) *providerv1.Identity {
	return &providerv1.Identity{SandboxId: id, Owner: "brk_1", Labels: map[string]string{"a": "b"}}
}

func (r *rig) create(id string, spec *providerv1.SandboxSpec) *providerv1.Sandbox {
	r.t.Helper()
	resp, err := r.CreateSandbox(r.ctx, &providerv1.CreateSandboxRequest{Operation: op(id), Identity: identity(id), Spec: spec})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.GetSandbox()
}

// start runs a command and returns its attachment, opened.
func (r *rig) start(id, exec string, spec *providerv1.ExecSpec) grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse] {
	r.t.Helper()
	if _, err := r.StartExec(r.ctx, &providerv1.StartExecRequest{Sandbox: ref(id), ExecId: exec, RequestDigest: op(exec).GetRequestDigest(), Spec: spec}); err != nil {
		r.t.Fatal(err)
	}
	stream, err := r.AttachExec(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	open := &providerv1.ExecOpen{Sandbox: ref(id), ExecId: exec, Stdin: spec.GetStdin()}
	r.send(stream, &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: open}})
	return stream
}

func (r *rig) send(stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse], in *providerv1.ExecInput) {
	r.t.Helper()
	if err := stream.Send(&providerv1.AttachExecRequest{Input: in}); err != nil {
		r.t.Fatal(err)
	}
}

// finish reads an attachment to Done.
func (r *rig) finish(stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) (stdout, stderr string, exit *providerv1.ExitStatus) {
	r.t.Helper()
	var out, errs bytes.Buffer
	for {
		resp, err := stream.Recv()
		if err != nil {
			r.t.Fatalf("stream ended without Done: %v", err)
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Data:
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR {
				errs.Write(f.Data.GetData())
			} else {
				out.Write(f.Data.GetData())
			}
			_ = stream.Send(&providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{
				Ack: &providerv1.ExecAck{Stdout: int64(out.Len()), Stderr: int64(errs.Len())},
			}}})
		case *providerv1.ExecOutput_Done:
			return out.String(), errs.String(), f.Done.GetExit()
		case *providerv1.ExecOutput_Fault:
			r.t.Fatalf("fault: %v", f.Fault)
		}
	}
}

func (r *rig) run(id, exec string, argv ...string) (stdout, stderr string, exit *providerv1.ExitStatus) {
	r.t.Helper()
	return r.finish(r.start(id, exec, &providerv1.ExecSpec{Argv: argv}))
}

func (r *rig) write(id, path, content string) error {
	stream, err := r.WriteFile(r.ctx)
	if err != nil {
		return err
	}
	for _, req := range []*providerv1.WriteFileRequest{
		{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: ref(id), Path: path, MakeParents: true}}},
		{Frame: &providerv1.WriteFileRequest_Data{Data: []byte(content)}},
		{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}},
	} {
		if err := stream.Send(req); err != nil {
			break // CloseAndRecv has the reason
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (r *rig) read(id, path string) (string, error) {
	stream, err := r.ReadFile(r.ctx, &providerv1.ReadFileRequest{Sandbox: ref(id), Path: path})
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		out.Write(resp.GetData())
	}
}

func reason(err error) providerv1.ErrorReason {
	if err == nil {
		return 0
	}
	return fault.From(err).Reason
}
