// Package providertest is what tests of providers begin with: it serves a driver as
// its process would, and asks it for what most of them need. Everything ends with the
// test.
package providertest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Patience is longer than anything takes that works.
const Patience = time.Minute

// Serve serves a driver on a socket, and returns a client of it. The caller closes the
// driver.
func Serve(t *testing.T, d sdk.Driver) providerv1.ProviderServiceClient {
	t.Helper()
	s, err := sdk.NewServer(d, sdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sbp") // a test's own folder may have too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(sdk.ServerOptions()...)
	s.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		s.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return providerv1.NewProviderServiceClient(conn)
}

// Guests is a provider whose sandboxes are in memory, configured, for a simulator to
// run things in.
func Guests(t *testing.T) providerv1.ProviderServiceClient {
	t.Helper()
	driver := fake.New(fake.Options{})
	t.Cleanup(driver.Close)
	guests := Serve(t, driver)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if _, err := guests.Configure(ctx, &providerv1.ConfigureRequest{Settings: &structpb.Struct{}, Owner: "simulator"}); err != nil {
		t.Fatal(err)
	}
	return guests
}

// Simulator is one of a vendor's API.
type Simulator interface {
	http.Handler
	Close(ctx context.Context) error
}

// Simulate serves a simulator on this machine, and returns its address.
func Simulate(t *testing.T, sim Simulator) string {
	t.Helper()
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := sim.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

// Plugin is a driver that is served and configured.
type Plugin struct {
	providerv1.ProviderServiceClient
	T *testing.T
	// Ctx ends some minutes later, should anything hang.
	Ctx context.Context //nolint:containedctx // of the one test that it is part of
}

// Driver is an sdk.Driver that has an end.
type Driver interface {
	sdk.Driver
	Close()
}

// New serves and configures a driver, and closes it. state may be empty.
func New(t *testing.T, driver Driver, settings map[string]any, secrets map[string][]byte, state string) Plugin {
	t.Helper()
	p := Plugin{T: t, ProviderServiceClient: Serve(t, driver)}
	t.Cleanup(driver.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 5*Patience)
	t.Cleanup(cancel)
	p.Ctx = ctx
	values, err := structpb.NewStruct(settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Configure(ctx, &providerv1.ConfigureRequest{Settings: values, Secrets: secrets, StateDir: state, Owner: "brk_1"}); err != nil {
		t.Fatal(err)
	}
	return p
}

// NewID makes an id up.
func NewID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

// NewRequest asks for a sandbox that nobody has asked for yet.
func NewRequest() *providerv1.CreateSandboxRequest {
	key := rand.Text()
	digest := sha256.Sum256([]byte(key))
	return &providerv1.CreateSandboxRequest{
		Operation: &providerv1.Operation{IdempotencyKey: key, RequestDigest: digest[:]},
		Identity:  &providerv1.Identity{SandboxId: NewID("sbx"), Owner: "brk_1"},
		Spec:      &providerv1.SandboxSpec{},
	}
}

// ByKey asks what a key has made.
func ByKey(key string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key}}
}

// Create makes a sandbox.
func (p Plugin) Create(req *providerv1.CreateSandboxRequest) *providerv1.SandboxRef {
	p.T.Helper()
	resp, err := p.CreateSandbox(p.Ctx, req)
	if err != nil {
		p.T.Fatal(err)
	}
	return &providerv1.SandboxRef{SandboxId: resp.GetSandbox().GetIdentity().GetSandboxId(), Handle: resp.GetSandbox().GetHandle()}
}

// Start starts a command and returns its id.
func (p Plugin) Start(ref *providerv1.SandboxRef, argv ...string) string {
	p.T.Helper()
	return p.StartSpec(ref, &providerv1.ExecSpec{Argv: argv})
}

// StartSpec is Start for a command that is more than its arguments.
func (p Plugin) StartSpec(ref *providerv1.SandboxRef, spec *providerv1.ExecSpec) string {
	p.T.Helper()
	id := NewID("exe")
	digest := sha256.Sum256([]byte(id))
	if _, err := p.StartExec(p.Ctx, &providerv1.StartExecRequest{Sandbox: ref, ExecId: id, RequestDigest: digest[:], Spec: spec}); err != nil {
		p.T.Fatal(err)
	}
	return id
}

// Read follows a command to its end, and returns what came on standard output.
func (p Plugin) Read(ref *providerv1.SandboxRef, id string) (string, *providerv1.ExitStatus) {
	p.T.Helper()
	stream, err := p.AttachExec(p.Ctx)
	if err != nil {
		p.T.Fatal(err)
	}
	send := func(in *providerv1.ExecInput) {
		if err := stream.Send(&providerv1.AttachExecRequest{Input: in}); err != nil && !errors.Is(err, io.EOF) {
			p.T.Fatal(err)
		}
	}
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref, ExecId: id}}})
	var out strings.Builder
	for {
		resp, err := stream.Recv()
		if err != nil {
			p.T.Fatalf("after %q: %v", out.String(), err)
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Data:
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDOUT {
				out.Write(f.Data.GetData())
				send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: int64(out.Len())}}})
			}
		case *providerv1.ExecOutput_Fault:
			p.T.Fatalf("after %q: %s", out.String(), f.Fault.GetMessage())
		case *providerv1.ExecOutput_Done:
			return out.String(), f.Done.GetExit()
		}
	}
}

// Run starts a command and reads it to its end.
func (p Plugin) Run(ref *providerv1.SandboxRef, argv ...string) (string, *providerv1.ExitStatus) {
	p.T.Helper()
	return p.Read(ref, p.Start(ref, argv...))
}

// Refused checks why a call was refused, and what it may have done.
func Refused(t *testing.T, what string, err error, reason providerv1.ErrorReason, effect providerv1.Effect) *fault.Error {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Reason != reason || f.Effect != effect {
		t.Fatalf("%s answers %v: want %s with effect %s", what, err, fault.Name(reason), fault.EffectName(effect))
	}
	return f
}
