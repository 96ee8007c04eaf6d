package tracing

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

type plugin struct {
	providerv1.UnimplementedProviderServiceServer
}

func (plugin) GetSandbox(context.Context, *providerv1.GetSandboxRequest) (*providerv1.GetSandboxResponse, error) {
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no /secret").GRPCStatus().Err()
}

func (plugin) AttachExec(s grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return s.Send(&providerv1.AttachExecResponse{})
}

// pair is a plugin and a client of it, whose spans come to one recorder.
func pair(t *testing.T) (*tracetest.SpanRecorder, *Tracer, providerv1.ProviderServiceClient) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	host, guest := newTracer(Options{Sample: 1}, recorder), newTracer(Options{}, recorder)
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(guest.ServerOptions()...)
	providerv1.RegisterProviderServiceServer(server, plugin{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	cc, err := grpc.NewClient("passthrough:x", append(host.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close(); server.Stop(); <-done })
	return recorder, host, providerv1.NewProviderServiceClient(cc)
}

// ended waits for n spans.
func ended(t *testing.T, r *tracetest.SpanRecorder, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		if s := r.Ended(); len(s) >= n {
			return s
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d spans have ended, want %d", len(r.Ended()), n)
		}
	}
}

func TestUnaryCall(t *testing.T) {
	r, host, client := pair(t)
	ctx, root := host.Start(t.Context(), "root")
	_, err := client.GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: &providerv1.SandboxRef{SandboxId: "sbx_1"}}})
	if !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Fatal(err)
	}
	root.End()
	all := ended(t, r, 3)
	parent := root.SpanContext()
	for _, i := range []int{1, 0} { // the client's, in it the server's
		s := all[i]
		if s.Parent().SpanID() != parent.SpanID() || s.SpanContext().TraceID() != parent.TraceID() {
			t.Errorf("%s %s is not below %s", s.SpanKind(), s.Name(), parent.SpanID())
		}
		if s.Status().Code != codes.Error || s.Status().Description != "SANDBOX_NOT_FOUND" || len(s.Events()) > 0 {
			t.Errorf("%s ended with %v %v", s.SpanKind(), s.Status(), s.Events())
		}
		var about string
		for _, a := range s.Attributes() {
			if a.Key == span.Sandbox {
				about = a.Value.AsString()
			}
		}
		if about != "sbx_1" {
			t.Errorf("%s is about %q", s.SpanKind(), about)
		}
		parent = s.SpanContext()
	}
}

// A call that belongs to no trace begins none: a broker's own looking after its
// plugins would be most of what is traced.
func TestCallWithoutATrace(t *testing.T) {
	r, _, client := pair(t)
	_, _ = client.GetSandbox(t.Context(), &providerv1.GetSandboxRequest{})
	if n := len(r.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func TestStream(t *testing.T) {
	for name, leave := range map[string]bool{"read to the end": false, "left": true} {
		t.Run(name, func(t *testing.T) {
			r, host, client := pair(t)
			ctx, root := host.Start(t.Context(), "root")
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			s, err := client.AttachExec(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if leave {
				cancel()
			} else {
				if err := s.Send(&providerv1.AttachExecRequest{}); err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = s.Recv()
				}
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			root.End()
			for _, s := range ended(t, r, 2) {
				if s.Status().Code != codes.Unset {
					t.Errorf("%s %s ended with %v", s.SpanKind(), s.Name(), s.Status())
				}
			}
		})
	}
}

func TestNothingSensibleInTheEnvironment(t *testing.T) {
	for _, endpoint := range []string{"", "collector:4317", "grpc://c:1"} {
		got := ForPlugin(func(name string) (string, bool) { return endpoint, name == EnvEndpoint && endpoint != "" }, "x", "v1")
		if got != nil {
			t.Errorf("endpoint %q makes a tracer", endpoint)
		}
		if opts := got.ServerOptions(); len(opts) != 0 || got.Endpoint() != "" || got.Shutdown(t.Context()) != nil {
			t.Error("no tracer does something")
		}
	}
}
