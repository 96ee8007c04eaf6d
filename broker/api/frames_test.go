package api_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Streams of JSON and of other protocols than gRPC carry what streams of frames
// carry, in every kind of stream.
func TestStreamsInEveryProtocol(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{})
	ref := &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: h2, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket)
	}}
	defer tr.CloseIdleConnections()
	for name, opts := range map[string][]connect.ClientOption{
		"gRPC":         {connect.WithGRPC()},
		"gRPC, JSON":   {connect.WithGRPC(), connect.WithProtoJSON()},
		"gRPC-Web":     {connect.WithGRPCWeb()},
		"Connect":      {},
		"Connect JSON": {connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			c := brokerv1connect.NewSandboxServiceClient(&http.Client{Transport: tr}, "http://sandbar", opts...)
			content := bytes.Repeat([]byte(name), 20<<10)
			up := c.WriteFile(t.Context())
			check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: ref, Path: "/f"}}}))
			for rest := content; len(rest) > 0; rest = rest[min(len(rest), 32<<10):] {
				check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: rest[:min(len(rest), 32<<10)]}}))
			}
			check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}}))
			_, err := up.CloseAndReceive()
			check(t, err)
			down, err := c.ReadFile(t.Context(), connect.NewRequest(&providerv1.ReadFileRequest{Sandbox: ref, Path: "/f"}))
			check(t, err)
			var got bytes.Buffer
			for down.Receive() {
				got.Write(down.Msg().GetData())
			}
			check(t, down.Err())
			check(t, down.Close())
			if !bytes.Equal(got.Bytes(), content) {
				t.Errorf("read %d bytes back, want the %d that were written", got.Len(), len(content))
			}

			stream := c.AttachExec(t.Context())
			check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{
				Sandbox: ref, ExecId: s.start(t, sb.GetSandboxId(), "cat"), Stdin: true,
			}}})))
			check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Data: []byte(name)}}})))
			check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: int64(len(name))}}})))
			if out, done := drain(t, stream); string(out) != name || done == nil {
				t.Errorf("cat answered %q, %v; want %q", out, done, name)
			}
		})
	}
}

// An error that the provider sends in a stream of frames arrives whole.
func TestFaultInsteadOfFrames(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{})
	down, err := s.client.ReadFile(t.Context(), connect.NewRequest(&providerv1.ReadFileRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}, Path: "/missing",
	}))
	check(t, err)
	for down.Receive() {
		t.Errorf("received %v", down.Msg())
	}
	if err := down.Err(); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) {
		t.Errorf("error is %v, want FILE_NOT_FOUND", err)
	}
	check(t, down.Close())
}
