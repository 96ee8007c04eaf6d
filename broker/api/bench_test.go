package api_test

import (
	"errors"
	"io"
	"testing"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// BenchmarkAttachExecOutput measures output from the vendor's server to the
// client, through the broker: two Unix sockets, 32 KiB frames.
func BenchmarkAttachExecOutput(b *testing.B) {
	s := newStack(b, nil)
	sb := s.create(b, &brokerv1.CreateSandboxRequest{})
	const mib = 64
	b.SetBytes(mib << 20)
	for b.Loop() {
		exec := s.start(b, sb.GetSandboxId(), "bytes", "64")
		stream := s.attach(b, sb.GetSandboxId(), exec)
		total := 0
		for {
			msg, err := stream.Receive()
			if errors.Is(err, io.EOF) {
				break
			}
			check(b, err)
			total += len(msg.GetOutput().GetData().GetData())
		}
		check(b, stream.CloseRequest())
		check(b, stream.CloseResponse())
		if total != mib<<20 {
			b.Fatalf("%d bytes arrived", total)
		}
	}
}

// BenchmarkGetExec measures what the broker adds to the smallest call.
func BenchmarkGetExec(b *testing.B) {
	s := newStack(b, nil)
	sb := s.create(b, &brokerv1.CreateSandboxRequest{})
	ref := &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}
	exec := s.start(b, sb.GetSandboxId(), "sleep")
	for b.Loop() {
		_, err := s.client.GetExec(b.Context(), connect.NewRequest(&providerv1.GetExecRequest{Sandbox: ref, ExecId: exec}))
		check(b, err)
	}
}
