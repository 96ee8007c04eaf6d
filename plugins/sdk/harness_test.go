package sdk_test

import (
	"context"
	"crypto/sha256"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func TestMain(m *testing.M) {
	if reexecuted() {
		return
	}
	goleak.VerifyTestMain(m)
}

// serveDriver serves d over gRPC on a Unix socket, as the plugin host and the
// local provider's shim do, and returns a client.
func serveDriver(tb testing.TB, d sdk.Driver, opts sdk.Options) (providerv1.ProviderServiceClient, *sdk.Server) {
	tb.Helper()
	s, err := sdk.NewServer(d, opts)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	g := grpc.NewServer(sdk.ServerOptions()...)
	s.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)),
		grpc.WithInitialWindowSize(handshake.StreamWindowBytes), grpc.WithInitialConnWindowSize(handshake.ConnWindowBytes),
		grpc.WithReadBufferSize(handshake.SocketBufferBytes), grpc.WithWriteBufferSize(handshake.SocketBufferBytes))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
		s.Close()
	})
	return connected{providerv1.NewProviderServiceClient(conn), conn}, s
}

// connected is a client that shows its connection.
type connected struct {
	providerv1.ProviderServiceClient
	grpc.ClientConnInterface
}

// within returns a context with a deadline.
// patience is far above what any call takes, and far below for ever.
const patience = time.Minute

func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	tb.Cleanup(cancel)
	return ctx
}

func ref(id string) *providerv1.SandboxRef { return &providerv1.SandboxRef{SandboxId: id} }

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func operation(seed string) *providerv1.Operation {
	return &providerv1.Operation{IdempotencyKey: (seed + strings.Repeat("A", 26))[:26], RequestDigest: digest(seed)}
}

func createRequest(id string) *providerv1.CreateSandboxRequest {
	return &providerv1.CreateSandboxRequest{
		Operation: operation(strings.ReplaceAll(id, "_", "")), Identity: &providerv1.Identity{SandboxId: id, Owner: "brk_1"},
	}
}

func startRequest(id string, argv ...string) *providerv1.StartExecRequest {
	return &providerv1.StartExecRequest{
		Sandbox: ref("sbx_1"), ExecId: id, RequestDigest: digest(id), Spec: &providerv1.ExecSpec{Argv: argv},
	}
}
