package provider_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a plugin whose answers a test sets.
type backend struct {
	providerv1.UnimplementedProviderServiceServer
	calls  atomic.Int32
	get    func(n int32) (*providerv1.GetSandboxResponse, error)
	signal func(n int32) error
	attach func(n int32, s grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error
	create func(context.Context) error
}

func (b *backend) GetSandbox(context.Context, *providerv1.GetSandboxRequest) (*providerv1.GetSandboxResponse, error) {
	return b.get(b.calls.Add(1))
}

func (b *backend) SignalExec(context.Context, *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return &providerv1.SignalExecResponse{}, b.signal(b.calls.Add(1))
}

func (b *backend) CreateSandbox(ctx context.Context, _ *providerv1.CreateSandboxRequest) (*providerv1.CreateSandboxResponse, error) {
	b.calls.Add(1)
	return &providerv1.CreateSandboxResponse{}, b.create(ctx)
}

func (b *backend) AttachExec(s grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	return b.attach(b.calls.Add(1), s)
}

// conn is a connection to a backend over a real gRPC server.
type conn struct {
	grpc.ClientConnInterface
	described *providerv1.DescribeResponse
}

func (c conn) Descriptor(context.Context) (*providerv1.DescribeResponse, error) {
	return c.described, nil
}
func (c conn) Described() *providerv1.DescribeResponse { return c.described }

func connect(t *testing.T, b *backend, capabilities ...string) *provider.Provider {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	providerv1.RegisterProviderServiceServer(srv, b)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(listener)
	}()
	cc, err := grpc.NewClient("passthrough:///backend", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		srv.Stop()
		<-served
	})
	d := &providerv1.DescribeResponse{Name: "test", Limits: map[string]int64{"retained_output_bytes": 1 << 20}}
	for _, id := range capabilities {
		id, off := strings.CutPrefix(id, "-")
		c := &providerv1.Capability{Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Limits: map[string]int64{"max": 3}}
		if off {
			c.State, c.Reason = providerv1.CapabilityState_CAPABILITY_STATE_DISABLED, "the account has no quota"
		}
		d.Capabilities = append(d.Capabilities, c)
	}
	return provider.New("test", conn{cc, d}, provider.Options{Retry: provider.Retry{Base: time.Millisecond, Max: 2 * time.Millisecond}})
}

func ref(id string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: &providerv1.SandboxRef{SandboxId: id}}}
}

func wire(reason providerv1.ErrorReason) *fault.Error {
	return fault.New(reason, "the backend says so")
}

func TestErrorsAndRetries(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		calls  int32 // attempts until the end
		reason providerv1.ErrorReason
	}{
		{"not found", wire(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND), 1, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND},
		{"quota", wire(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED), 1, providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED},
		{"upstream", wire(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE), 5, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE},
		{"rate limited", wire(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED), 5, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED},
		{"told to wait longer than the call has", wire(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED).WithRetryAfter(time.Hour), 1, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED},
		{"bug, once more", wire(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG), 2, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"bare unimplemented", status.Error(codes.Unimplemented, "method GetSandbox not implemented"), 2, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"bare error", errors.New("driver says no"), 2, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"a reason of the broker", wire(providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED).WithEffect(providerv1.Effect_EFFECT_NONE), 2, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &backend{get: func(int32) (*providerv1.GetSandboxResponse, error) { return nil, tc.err }}
			_, err := connect(t, b).GetSandbox(t.Context(), ref("sbx_1"))
			var e *fault.Error
			if !errors.As(err, &e) || e.Reason != tc.reason || e.Metadata["provider"] != "test" {
				t.Errorf("got %#v, want reason %s", err, fault.Name(tc.reason))
			}
			if got := b.calls.Load(); got != tc.calls {
				t.Errorf("%d attempts, want %d", got, tc.calls)
			}
			if tc.reason == providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG && e.Effect != providerv1.Effect_EFFECT_UNKNOWN {
				t.Errorf("effect %s of a plugin that breaks the contract was believed", e.Effect)
			}
		})
	}
}

func TestRetryEndsWithSuccess(t *testing.T) {
	b := &backend{get: func(n int32) (*providerv1.GetSandboxResponse, error) {
		if n < 3 {
			return nil, wire(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED).WithRetryAfter(time.Millisecond)
		}
		return &providerv1.GetSandboxResponse{Sandbox: &providerv1.Sandbox{VendorId: "v"}}, nil
	}}
	resp, err := connect(t, b).GetSandbox(t.Context(), ref("sbx_1"))
	if err != nil || resp.GetSandbox().GetVendorId() != "v" || b.calls.Load() != 3 {
		t.Errorf("got %v, %v after %d attempts", resp, err, b.calls.Load())
	}
}

func TestOnceOnlyCalls(t *testing.T) {
	for _, tc := range []struct {
		name   string
		effect providerv1.Effect
		calls  int32
	}{
		{"may have happened", providerv1.Effect_EFFECT_UNKNOWN, 1},
		{"has not happened", providerv1.Effect_EFFECT_NONE, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &backend{signal: func(int32) error {
				return wire(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE).WithEffect(tc.effect)
			}}
			_, err := connect(t, b, "exec.signal").SignalExec(t.Context(), &providerv1.SignalExecRequest{})
			if err == nil || b.calls.Load() != tc.calls {
				t.Errorf("error %v after %d attempts, want %d", err, b.calls.Load(), tc.calls)
			}
		})
	}
}

// TestUncertaintyOutlivesRetries: what one attempt may have done, a later one
// that surely did nothing does not deny.
func TestUncertaintyOutlivesRetries(t *testing.T) {
	b := &backend{}
	b.create = func(context.Context) error {
		if b.calls.Load() == 1 {
			return wire(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE)
		}
		return wire(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED)
	}
	_, err := connect(t, b).CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{})
	var e *fault.Error
	if !errors.As(err, &e) || e.Reason != providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED || e.Effect != providerv1.Effect_EFFECT_UNKNOWN {
		t.Errorf("got %#v after %d attempts, want an unknown effect", err, b.calls.Load())
	}
}

func TestDeadlines(t *testing.T) {
	var left time.Duration
	b := &backend{create: func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}}
	p := connect(t, b)
	if _, err := p.CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{}); err != nil {
		t.Fatal(err)
	}
	if left < 50*time.Second || left > time.Minute {
		t.Errorf("create without a deadline had %s, want a minute", left)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := p.CreateSandbox(ctx, &providerv1.CreateSandboxRequest{}); err != nil {
		t.Fatal(err)
	}
	if left > 5*time.Second {
		t.Errorf("the caller's deadline of 5s became %s", left)
	}
	b.create = func(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() }
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := p.CreateSandbox(ctx, &providerv1.CreateSandboxRequest{})
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED) || fault.From(err).Effect != providerv1.Effect_EFFECT_UNKNOWN {
		t.Errorf("got %v", err)
	}
}

func TestCapabilitiesAreCheckedFirst(t *testing.T) {
	b := &backend{signal: func(int32) error { return nil }, create: func(context.Context) error { return nil }}
	p := connect(t, b, "exec.pty", "-compute.gpu")
	_, err := p.SignalExec(t.Context(), &providerv1.SignalExecRequest{})
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED) || fault.From(err).Metadata[fault.MetaCapability] != "exec.signal" {
		t.Errorf("SignalExec: %v", err)
	}
	_, err = p.CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Resources: &providerv1.Resources{Gpu: &providerv1.Gpu{Count: 1}}}})
	if e := fault.From(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED ||
		e.Metadata[fault.MetaField] != "spec.resources.gpu" || e.Metadata["why"] != "the account has no quota" {
		t.Errorf("GPU: %v", err)
	}
	if _, err := p.OpenTunnel(t.Context()); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED) {
		t.Errorf("stream: %v", err)
	}
	_, err = p.CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Workdir: strings.Repeat("x", handshake.MaxMessageBytes)}})
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
		t.Errorf("message too large: %v", err)
	}
	if n := b.calls.Load(); n != 0 {
		t.Errorf("%d refused calls reached the provider", n)
	}
	if !p.Supports("exec.pty") || p.Supports("compute.gpu") || p.Supports("fork") {
		t.Error("Supports disagrees with the declarations")
	}
	set, err := p.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if max, ok := set.Limit("exec.pty", "max"); !ok || max != 3 {
		t.Errorf("limit of a capability: %d, %v", max, ok)
	}
	if kept, ok := set.Limit("", "retained_output_bytes"); !ok || kept != 1<<20 {
		t.Errorf("limit of the provider: %d, %v", kept, ok)
	}
}

func TestSettle(t *testing.T) {
	for _, tc := range []struct {
		name string
		resp *providerv1.GetSandboxResponse
		err  error
		want provider.Outcome
	}{
		{"found", &providerv1.GetSandboxResponse{Sandbox: &providerv1.Sandbox{}}, nil, provider.Found},
		{"absent", nil, wire(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND), provider.Absent},
		{"vendor is down", nil, wire(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE), provider.Unknown},
		{"code without a reason proves nothing", nil, status.Error(codes.NotFound, "no"), provider.Unknown},
		{"empty answer", &providerv1.GetSandboxResponse{}, nil, provider.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &backend{get: func(int32) (*providerv1.GetSandboxResponse, error) { return tc.resp, tc.err }}
			got := connect(t, b).Settle(t.Context(), provider.NewKey())
			if got.Outcome != tc.want || (got.Sandbox != nil) != (tc.want == provider.Found) || (got.Cause != nil) != (tc.want == provider.Unknown) {
				t.Errorf("got %+v, want outcome %d", got, tc.want)
			}
		})
	}
}

// TestFollow: the stream breaks after part of the output, and goes on.
func TestFollow(t *testing.T) {
	text := "every byte once"
	b := &backend{attach: func(n int32, s grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
		req, err := s.Recv()
		if err != nil {
			return err
		}
		from := req.GetInput().GetOpen().GetStdoutFrom()
		upTo := min(from+4, int64(len(text)))
		outputs := []*providerv1.ExecOutput{
			{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{StdoutFrom: from}}},
			{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{Stream: 1, Offset: from, Data: []byte(text[from:upTo]), Eof: upTo == int64(len(text))}}},
		}
		if upTo == int64(len(text)) {
			outputs = append(outputs, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{
				StdoutTotal: upTo, Exit: &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{Code: 3}, Cause: 1},
			}}})
		}
		for _, o := range outputs {
			if err := s.Send(&providerv1.AttachExecResponse{Output: o}); err != nil {
				return err
			}
		}
		if n%2 == 0 {
			return wire(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE)
		}
		return nil // an end without Done, which is no end
	}}
	var out bytes.Buffer
	r, err := connect(t, b).Follow(t.Context(), &providerv1.ExecOpen{ExecId: "exe_1"}, session.Options{Stdout: &out})
	if err != nil || out.String() != text || r.Exit.GetCode() != 3 || r.Attachments != 4 {
		t.Errorf("got %q, %+v, %v", out.String(), r, err)
	}
}
