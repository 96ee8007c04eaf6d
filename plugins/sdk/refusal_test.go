package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// TestUndeclaredMethodsAreRefusedOverTheWire calls every guarded method, unary
// and streaming, of a provider that declares nothing.
func TestUndeclaredMethodsAreRefusedOverTheWire(t *testing.T) {
	d := newTiny("egress.deny")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true})
	conn := connOf(client)
	methods := providerv1.File_sandbar_provider_v1_provider_proto.Services().Get(0).Methods()
	tried := 0
	for i := range methods.Len() {
		m := methods.Get(i)
		full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
		id := guard.Method(full)
		if id == "" {
			continue
		}
		tried++
		err := callRaw(within(t, patience), conn, full, m)
		if got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED); got.Metadata[fault.MetaCapability] != id {
			t.Errorf("%s: capability %q, want %q", full, got.Metadata[fault.MetaCapability], id)
		}
	}
	if tried < 25 || d.count() != 0 {
		t.Errorf("%d methods tried, the driver saw %d calls", tried, d.count())
	}
}

// connOf returns the connection under a generated client.
func connOf(client providerv1.ProviderServiceClient) grpc.ClientConnInterface {
	return client.(connected).ClientConnInterface
}

func callRaw(ctx context.Context, conn grpc.ClientConnInterface, full string, m protoreflect.MethodDescriptor) error {
	in, out := generated(m.Input()), generated(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, in, out)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, full)
	if err != nil {
		return err
	}
	// EOF: the server has refused already, and RecvMsg says how.
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send: %w", err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(out)
}

func generated(md protoreflect.MessageDescriptor) proto.Message {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		panic(err)
	}
	return mt.New().Interface()
}

func TestValidation(t *testing.T) {
	d := newTiny("egress.deny", "image.oci", "mount.host", "exec.user", "compute.pids")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true})
	spec := func(s *providerv1.SandboxSpec) *providerv1.CreateSandboxRequest {
		req := createRequest("sbx_1")
		req.Spec = s
		return req
	}
	host := &providerv1.Mount_HostPath{HostPath: "/src"}
	start := func(change func(*providerv1.StartExecRequest)) *providerv1.StartExecRequest {
		req := startRequest("exe_1", "true")
		change(req)
		return req
	}
	for _, tc := range []struct {
		field string
		req   proto.Message
	}{
		{"identity.sandbox_id", &providerv1.CreateSandboxRequest{Operation: operation("a"), Identity: &providerv1.Identity{SandboxId: "../x", Owner: "o"}}},
		{"identity.owner", &providerv1.CreateSandboxRequest{Operation: operation("a"), Identity: &providerv1.Identity{SandboxId: "x"}}},
		{"identity.labels", &providerv1.CreateSandboxRequest{Operation: operation("a"), Identity: &providerv1.Identity{SandboxId: "x", Owner: "o", Labels: map[string]string{"a b": ""}}}},
		{"operation.idempotency_key", &providerv1.CreateSandboxRequest{Operation: &providerv1.Operation{RequestDigest: digest("x")}, Identity: &providerv1.Identity{SandboxId: "x", Owner: "o"}}},
		{"operation.request_digest", &providerv1.CreateSandboxRequest{Operation: &providerv1.Operation{IdempotencyKey: strings.Repeat("A", 26)}, Identity: &providerv1.Identity{SandboxId: "x", Owner: "o"}}},
		{"spec.workdir", spec(&providerv1.SandboxSpec{Workdir: "rel"})},
		{"spec.env", spec(&providerv1.SandboxSpec{Env: map[string]string{"A=B": "x"}})},
		{"spec.env[A]", spec(&providerv1.SandboxSpec{Env: map[string]string{"A": "s\x00ecret"}})},
		{"spec.image.oci", spec(&providerv1.SandboxSpec{Image: &providerv1.Image{Source: &providerv1.Image_Oci{Oci: "a b"}}})},
		{"spec.resources.pids", spec(&providerv1.SandboxSpec{Resources: &providerv1.Resources{Pids: -1}})},
		{"spec.mounts[0].target", spec(&providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{Target: "x", Source: host, Mode: providerv1.MountMode_MOUNT_MODE_RO}}})},
		{"spec.mounts[0].mode", spec(&providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{Target: "/x", Source: host}}})},
		{"spec.mounts[1].target", spec(&providerv1.SandboxSpec{Mounts: []*providerv1.Mount{
			{Target: "/x", Source: host, Mode: providerv1.MountMode_MOUNT_MODE_RO}, {Target: "/x/./", Source: host, Mode: providerv1.MountMode_MOUNT_MODE_RO},
		}})},
		{"spec.argv", start(func(r *providerv1.StartExecRequest) { r.Spec.Argv = nil })},
		{"spec.argv[1]", start(func(r *providerv1.StartExecRequest) { r.Spec.Argv = []string{"a", "b\x00"} })},
		{"spec.user", start(func(r *providerv1.StartExecRequest) { r.Spec.User = "a b" })},
		{"spec.timeout", start(func(r *providerv1.StartExecRequest) { r.Spec.Timeout = durationpb.New(-1) })},
		{"exec_id", start(func(r *providerv1.StartExecRequest) { r.ExecId = "" })},
		{"request_digest", start(func(r *providerv1.StartExecRequest) { r.RequestDigest = []byte("short") })},
		{"page_size", &providerv1.ListSandboxesRequest{Owner: "o", PageSize: 1001}},
		{"owner", &providerv1.ListSandboxesRequest{}},
		{"by", &providerv1.GetSandboxRequest{}},
		{"sandboxes[1].sandbox_id", &providerv1.RecoverRequest{Sandboxes: []*providerv1.SandboxRef{ref("a"), ref("")}}},
		{"sandbox.handle.data", &providerv1.DeleteSandboxRequest{Sandbox: &providerv1.SandboxRef{SandboxId: "a", Handle: &providerv1.Handle{Data: make([]byte, 4097)}}}},
	} {
		name := strings.TrimSuffix(string(tc.req.ProtoReflect().Descriptor().Name()), "Request")
		md := providerv1.File_sandbar_provider_v1_provider_proto.Services().Get(0).Methods().ByName(protoreflect.Name(name))
		err := connOf(client).Invoke(within(t, patience), "/sandbar.provider.v1.ProviderService/"+name, tc.req, generated(md.Output()))
		got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		if got.Metadata[fault.MetaField] != tc.field || len(got.Fields) == 0 || got.Effect != providerv1.Effect_EFFECT_NONE {
			t.Errorf("%s: field %q effect %v: %v", tc.field, got.Metadata[fault.MetaField], got.Effect, err)
		}
		if strings.Contains(err.Error(), "ecret") {
			t.Errorf("%s: the value of an environment variable leaked: %v", tc.field, err)
		}
	}
	if d.count() != 0 {
		t.Errorf("the driver saw %d refused requests", d.count())
	}
}

// pausing is tiny with an interface that it may or may not declare.
type pausing struct{ *tinyDriver }

func (pausing) PauseSandbox(context.Context, *providerv1.PauseSandboxRequest) (*providerv1.Sandbox, error) {
	return &providerv1.Sandbox{Identity: &providerv1.Identity{SandboxId: "sbx_1"}, Kept: &providerv1.Keeps{Disk: true}}, nil
}

func (pausing) ResumeSandbox(context.Context, *providerv1.ResumeSandboxRequest) (*providerv1.Sandbox, error) {
	return nil, nil
}

func TestServerRefusesADriverThatContradictsItself(t *testing.T) {
	for _, tc := range []struct {
		name   string
		driver sdk.Driver
		want   string
	}{
		{"declared and not implemented", newTiny("fork", "fork.disk"), `"fork" is declared and the driver does not implement`},
		{"implemented and not declared", pausing{newTiny()}, `implements "pause" and does not declare it`},
		{"unknown id", newTiny("exec.telepathy"), `"exec.telepathy" is unknown`},
		{"missing need", newTiny("fs.owner"), `"fs.owner" needs "fs.write"`},
		{"twice", newTiny("exec.stdin", "exec.stdin"), "declared twice"},
		{"reattach of the SDK's own execs", newTiny("exec.reattach"), "ExecServer"},
		{"disabled without a reason", &tinyDriver{caps: []*providerv1.Capability{{Id: "exec.pty", State: providerv1.CapabilityState_CAPABILITY_STATE_DISABLED}}}, "without a reason"},
	} {
		_, err := sdk.NewServer(tc.driver, sdk.Options{})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	s, err := sdk.NewServer(newTiny("x-acme.warp"), sdk.Options{})
	if err != nil {
		t.Fatalf("a vendor's own id: %v", err)
	}
	s.Close()
}

func TestLessThanTheMinimumIsNeverASuccess(t *testing.T) {
	client, _ := serveDriver(t, pausing{newTiny("pause", "pause.disk", "pause.memory")}, sdk.Options{Configured: true})
	if _, err := client.PauseSandbox(within(t, patience), &providerv1.PauseSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Errorf("disk was kept: %v", err)
	}
	_, err := client.PauseSandbox(within(t, patience), &providerv1.PauseSandboxRequest{Sandbox: ref("sbx_1"), Minimum: &providerv1.Keeps{Memory: true}})
	if got := wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG); got.Effect != providerv1.Effect_EFFECT_APPLIED {
		t.Errorf("effect %v", got.Effect)
	}
	_, err = client.ResumeSandbox(within(t, patience), &providerv1.ResumeSandboxRequest{Sandbox: ref("sbx_1")})
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG)
}
