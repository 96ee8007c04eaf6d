package conformance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	pb "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// fleet is a server.Fleet of the reference provider, served in this process.
type fleet struct{ inst *subject.Instance }

// fleetConn is a provider.Conn.
type fleetConn struct {
	grpc.ClientConnInterface
	describe *pb.DescribeResponse
}

func (c fleetConn) Descriptor(context.Context) (*pb.DescribeResponse, error) { return c.describe, nil }
func (c fleetConn) Described() *pb.DescribeResponse                          { return c.describe }

// bounded is a context with a deadline, as the contract wants it.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newFleet starts the provider.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	target := subject.NewInProcess(subject.DriverOptions{New: func() (sdk.Driver, error) { return fake.New(fake.Options{}), nil }})
	inst, err := target.Open(bounded(t), subject.OpenOptions{Owner: "brk_test"})
	if err != nil {
		t.Fatal(err)
	}
	return &fleet{subject.NewInstance(inst.Conn, inst.Describe, nil, "", func(ctx context.Context) error {
		return errors.Join(inst.Close(ctx), target.Close(ctx))
	})}
}

func (f *fleet) Start(_ context.Context, _ string, ready func(string)) error {
	go ready("fake")
	return nil
}

func (f *fleet) Provider(name string) (*provider.Provider, bool) {
	return provider.New(name, fleetConn{f.inst.Conn, f.inst.Describe}, provider.Options{}), name == "fake"
}

func (f *fleet) Unreachable(string) string { return "" }
func (f *fleet) Names() []string           { return []string{"fake"} }
func (f *fleet) Default() string           { return "fake" }

func (f *fleet) Describe(name string) *brokerv1.Provider {
	return &brokerv1.Provider{
		Name: name, State: brokerv1.PluginState_PLUGIN_STATE_READY, IsDefault: true, Version: "9.9.9",
		Sha256: strings.Repeat("f", 64), Capabilities: f.inst.Describe.GetCapabilities(),
	}
}

func (f *fleet) Settle(context.Context, string)        {}
func (f *fleet) Restart(context.Context, string) error { return nil }
func (f *fleet) Close(ctx context.Context) error       { return f.inst.Close(ctx) }

const apiKey = "sbk_test"

// startBroker runs a broker and returns its addresses.
func startBroker(t *testing.T) (unix, tcp string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cb") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Listen.TCP, cfg.APIKeys = address, []config.APIKey{{Name: "test", SHA256: authn.HashKey(apiKey)}}
	ready := make(chan struct{})
	opts := server.Options{
		Config: cfg, StateDir: filepath.Join(dir, "state"), RuntimeDir: filepath.Join(dir, "run"), Version: "v1", Fleet: newFleet(t),
		Ready: func() error { close(ready); return nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, opts) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("the broker ended: %v", err)
	}
	return "unix://" + opts.Socket(), "http://" + address
}

func TestThroughABroker(t *testing.T) {
	unix, tcp := startBroker(t)
	for address, key := range map[string]string{unix: "", tcp: apiKey} {
		r, err := conformance.Run(t.Context(), conformance.Broker(address, key, "fake"), conformance.Options{Cases: quick})
		if err != nil {
			t.Fatal(err)
		}
		all, _ := r.Totals()
		if all.Pass != len(quick) || all.Fail+all.Error > 0 || r.Plugin.Target != "broker" || r.Plugin.SHA256 != strings.Repeat("f", 64) {
			t.Errorf("%s: %+v of %+v", address, all, r.Plugin)
		}
	}
	for name, target := range map[string]conformance.Target{
		"another provider": conformance.Broker(unix, "", "nope"), "no key": conformance.Broker(tcp, "", "fake"), "a wrong key": conformance.Broker(tcp, "sbk_no", "fake"),
	} {
		if r, err := conformance.Run(t.Context(), target, conformance.Options{Cases: quick}); err == nil {
			t.Errorf("%s: verdict %s: want an error", name, r.Verdict)
		}
	}
}

// TestAPublicKeyStaysHome: an API key never crosses a network in the clear.
func TestAPublicKeyStaysHome(t *testing.T) {
	_, err := conformance.Run(t.Context(), conformance.Broker("http://example.com:80", apiKey, "fake"), conformance.Options{Cases: quick})
	if err == nil || !strings.Contains(err.Error(), "in the clear") {
		t.Errorf("got %v: want it refused", err)
	}
}

// adapter is the contract as a broker shows it.
func adapter(t *testing.T) pb.ProviderServiceClient {
	t.Helper()
	address, _ := startBroker(t)
	target, err := subject.NewBroker(subject.BrokerOptions{Address: address, Provider: "fake"})
	if err != nil {
		t.Fatal(err)
	}
	inst, err := target.Open(bounded(t), subject.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := inst.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return pb.NewProviderServiceClient(inst.Conn)
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(subject.Describe(err))
		}
		return v
	}
}

func request(id, key string) *pb.CreateSandboxRequest {
	return &pb.CreateSandboxRequest{
		Operation: &pb.Operation{IdempotencyKey: key, RequestDigest: []byte(key)},
		Identity:  &pb.Identity{SandboxId: id, Owner: "run/case", Labels: map[string]string{"team": "blue"}},
		Spec:      &pb.SandboxSpec{Env: map[string]string{"A": "1"}},
	}
}

func byID(id string) *pb.GetSandboxRequest {
	return &pb.GetSandboxRequest{By: &pb.GetSandboxRequest_Sandbox{Sandbox: &pb.SandboxRef{SandboxId: id}}}
}

// TestBrokerAsProvider: ids, owners, keys and labels come back as they were given,
// and errors as the broker said them.
func TestBrokerAsProvider(t *testing.T) {
	c, ctx := adapter(t), bounded(t)
	req := request("sbx_one", "key-1")
	sb := must[*pb.CreateSandboxResponse](t)(c.CreateSandbox(ctx, req)).GetSandbox()
	again := must[*pb.CreateSandboxResponse](t)(c.CreateSandbox(ctx, req)).GetSandbox()
	id := sb.GetIdentity()
	if id.GetSandboxId() != "sbx_one" || id.GetOwner() != "run/case" || len(id.GetLabels()) != 1 || id.GetLabels()["team"] != "blue" {
		t.Errorf("identity is %v: want the request's", id)
	}
	if op := sb.GetOperation(); op.GetIdempotencyKey() != "key-1" || string(op.GetRequestDigest()) != "key-1" || sb.GetHandle() != nil {
		t.Errorf("operation is %v, handle %v: want the request's, and none", op, sb.GetHandle())
	}
	if sb.GetVendorId() == "" || sb.GetVendorId() != again.GetVendorId() || sb.GetState() != pb.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("vendor ids %q and %q, state %s: want one that runs", sb.GetVendorId(), again.GetVendorId(), sb.GetState())
	}
	other := request("sbx_one", "key-1")
	other.Operation.RequestDigest = []byte("other")
	if _, err := c.CreateSandbox(ctx, other); !fault.Has(fault.From(err), pb.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("another digest under the key: %s", subject.Describe(err))
	}
	list := must[*pb.ListSandboxesResponse](t)(c.ListSandboxes(ctx, &pb.ListSandboxesRequest{Owner: "run/case"})).GetSandboxes()
	none := must[*pb.ListSandboxesResponse](t)(c.ListSandboxes(ctx, &pb.ListSandboxesRequest{Owner: "run/other"})).GetSandboxes()
	if len(list) != 1 || list[0].GetIdentity().GetSandboxId() != "sbx_one" || len(none) != 0 {
		t.Errorf("the owner has %v, another %v: want the one, and none", list, none)
	}
	end := timestamppb.New(time.Now().Add(time.Hour).Truncate(time.Millisecond))
	extended := must[*pb.ExtendLifetimeResponse](t)(c.ExtendLifetime(ctx, &pb.ExtendLifetimeRequest{Sandbox: &pb.SandboxRef{SandboxId: "sbx_one"}, ExpiresAt: end}))
	if got := extended.GetSandbox().GetExpiresAt(); got.GetSeconds() != end.GetSeconds() {
		t.Errorf("it ends at %s: want %s", got.AsTime(), end.AsTime())
	}
	must[*pb.DeleteSandboxResponse](t)(c.DeleteSandbox(ctx, &pb.DeleteSandboxRequest{Sandbox: &pb.SandboxRef{SandboxId: "sbx_one"}}))
	if d := must[*pb.DeleteSandboxResponse](t)(c.DeleteSandbox(ctx, &pb.DeleteSandboxRequest{Sandbox: &pb.SandboxRef{SandboxId: "sbx_one"}})); !d.GetAlreadyAbsent() {
		t.Error("deleted twice, the second is no already_absent")
	}
	_, err := c.GetSandbox(ctx, byID("sbx_one"))
	if f := fault.From(err); !f.Wire || !fault.Has(f, pb.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Errorf("get of what was deleted: %s: want the broker's own SANDBOX_NOT_FOUND", subject.Describe(err))
	}
}

func TestBrokerCarriesCommands(t *testing.T) {
	c, ctx := adapter(t), bounded(t)
	must[*pb.CreateSandboxResponse](t)(c.CreateSandbox(ctx, request("sbx_run", "key-r")))
	ref := &pb.SandboxRef{SandboxId: "sbx_run", Handle: &pb.Handle{Version: 1, Data: []byte("x")}}
	started := must[*pb.StartExecResponse](t)(c.StartExec(ctx, &pb.StartExecRequest{
		Sandbox: ref, ExecId: "exe_aaaaaaaaaaaaaaaaaaaaaaaaaa", RequestDigest: []byte("d"), Spec: &pb.ExecSpec{Argv: []string{"echo", "hello"}},
	}))
	if got := started.GetExec().GetSandboxId(); got != "sbx_run" {
		t.Errorf("the command is in %q: want sbx_run", got)
	}
	stream := must[pb.ProviderService_AttachExecClient](t)(c.AttachExec(ctx))
	open := &pb.ExecOpen{Sandbox: ref, ExecId: started.GetExec().GetExecId()}
	if err := stream.Send(&pb.AttachExecRequest{Input: &pb.ExecInput{Frame: &pb.ExecInput_Open{Open: open}}}); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(subject.Describe(err))
		}
		out = append(out, frame.GetOutput().GetData().GetData()...)
	}
	if string(out) != "hello\n" {
		t.Errorf("output is %q", out)
	}
	if ref.GetSandboxId() != "sbx_run" || ref.GetHandle() == nil {
		t.Errorf("the caller's request was changed: %v", ref)
	}
}

func TestBrokerCarriesCopies(t *testing.T) {
	c, ctx := adapter(t), bounded(t)
	must[*pb.CreateSandboxResponse](t)(c.CreateSandbox(ctx, request("sbx_parent", "key-p")))
	ref := &pb.SandboxRef{SandboxId: "sbx_parent"}
	forked := must[*pb.ForkSandboxResponse](t)(c.ForkSandbox(ctx, &pb.ForkSandboxRequest{
		Sandbox: ref, Operation: &pb.Operation{IdempotencyKey: "key-f", RequestDigest: []byte("f")},
		Identities: []*pb.Identity{{SandboxId: "sbx_c1", Owner: "run/case"}, {SandboxId: "sbx_c2", Owner: "run/case"}},
	}))
	for i, want := range []string{"sbx_c1", "sbx_c2"} {
		sb := must[*pb.GetSandboxResponse](t)(c.GetSandbox(ctx, byID(want))).GetSandbox()
		if got := forked.GetSandboxes()[i]; got.GetIdentity().GetSandboxId() != want || sb.GetVendorId() != got.GetVendorId() {
			t.Errorf("copy %d is %v, asked for again %v: want %s", i, got, sb, want)
		}
	}
	snap := must[*pb.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, &pb.CreateSnapshotRequest{
		Sandbox: ref, SnapshotId: "snp_one", Operation: &pb.Operation{IdempotencyKey: "key-s", RequestDigest: []byte("s")}, Labels: map[string]string{"x": "y"},
	})).GetSnapshot()
	if snap.GetSnapshotId() != "snp_one" || snap.GetSandboxId() != "sbx_parent" || snap.GetOwner() != "run/case" || len(snap.GetLabels()) != 1 {
		t.Errorf("snapshot is %v", snap)
	}
	if all := must[*pb.ListSnapshotsResponse](t)(c.ListSnapshots(ctx, &pb.ListSnapshotsRequest{Owner: "run/case"})); len(all.GetSnapshots()) != 1 {
		t.Errorf("the owner has snapshots %v: want the one", all)
	}
	restored := must[*pb.RestoreSnapshotResponse](t)(c.RestoreSnapshot(ctx, &pb.RestoreSnapshotRequest{
		SnapshotId: "snp_one", Operation: &pb.Operation{IdempotencyKey: "key-x", RequestDigest: []byte("x")}, Identity: &pb.Identity{SandboxId: "sbx_again", Owner: "run/case"},
	})).GetSandbox()
	if restored.GetIdentity().GetSandboxId() != "sbx_again" || restored.GetState() != pb.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("restored is %v", restored)
	}
	must[*pb.DeleteSnapshotResponse](t)(c.DeleteSnapshot(ctx, &pb.DeleteSnapshotRequest{SnapshotId: "snp_one"}))
	must[*pb.CreateVolumeResponse](t)(c.CreateVolume(ctx, &pb.CreateVolumeRequest{Owner: "run/case", Name: "v1"}))
	volumes := must[*pb.ListVolumesResponse](t)(c.ListVolumes(ctx, &pb.ListVolumesRequest{Owner: "run/case"})).GetVolumes()
	if len(volumes) != 1 || volumes[0].GetName() != "v1" || volumes[0].GetOwner() != "run/case" || len(volumes[0].GetLabels()) != 0 {
		t.Errorf("volumes are %v", volumes)
	}
	must[*pb.DeleteVolumeResponse](t)(c.DeleteVolume(ctx, &pb.DeleteVolumeRequest{Owner: "run/case", Name: "v1"}))
}

// TestBrokerForgetsNothingOverConnections: a client that has just come finds what
// another made, by its label.
func TestBrokerForgetsNothingOverConnections(t *testing.T) {
	address, _ := startBroker(t)
	var clients []pb.ProviderServiceClient
	for range 2 {
		target, err := subject.NewBroker(subject.BrokerOptions{Address: address, Provider: "fake"})
		if err != nil {
			t.Fatal(err)
		}
		inst, err := target.Open(bounded(t), subject.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = inst.Close(context.Background()) })
		clients = append(clients, pb.NewProviderServiceClient(inst.Conn))
	}
	must[*pb.CreateSandboxResponse](t)(clients[0].CreateSandbox(bounded(t), request("sbx_label", "key-l")))
	sb := must[*pb.GetSandboxResponse](t)(clients[1].GetSandbox(bounded(t), byID("sbx_label"))).GetSandbox()
	if sb.GetIdentity().GetSandboxId() != "sbx_label" || sb.GetIdentity().GetOwner() != "run/case" || sb.GetIdentity().GetLabels()["team"] != "blue" {
		t.Errorf("the other client sees %v", sb.GetIdentity())
	}
}

func TestBrokerHides(t *testing.T) {
	c, ctx := adapter(t), bounded(t)
	_, configure := c.Configure(ctx, &pb.ConfigureRequest{})
	_, drain := c.Drain(ctx, &pb.DrainRequest{})
	_, recovery := c.Recover(ctx, &pb.RecoverRequest{})
	_, byKey := c.GetSandbox(ctx, &pb.GetSandboxRequest{By: &pb.GetSandboxRequest_IdempotencyKey{IdempotencyKey: "k"}})
	_, watch := c.WatchSandboxes(ctx, &pb.WatchSandboxesRequest{})
	for what, err := range map[string]error{"Configure": configure, "Drain": drain, "Recover": recovery, "GetSandbox by key": byKey, "WatchSandboxes": watch} {
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v: want UNIMPLEMENTED", what, err)
		}
	}
	d := must[*pb.DescribeResponse](t)(c.Describe(ctx, &pb.DescribeRequest{}))
	p := must[*pb.ProbeResponse](t)(c.Probe(ctx, &pb.ProbeRequest{}))
	if d.GetName() != "fake" || d.GetVersion() != "9.9.9" || len(d.GetCapabilities()) == 0 || !p.GetReady() {
		t.Errorf("described as %v, probed %v", d, p)
	}
}
