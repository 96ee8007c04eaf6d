package daytona_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/plugins/daytona"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// serve serves a driver on a socket, and returns a client of it.
func serve(t *testing.T, d sdk.Driver) providerv1.ProviderServiceClient {
	t.Helper()
	s, err := sdk.NewServer(d, sdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sbd")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
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

// vendor is a simulator with guests in memory, and where it is.
type vendor struct {
	*simulator.Simulator
	url string
}

func newVendor(t *testing.T) vendor {
	t.Helper()
	driver := fake.New(fake.Options{})
	t.Cleanup(driver.Close)
	guests := serve(t, driver)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := guests.Configure(ctx, &providerv1.ConfigureRequest{Settings: &structpb.Struct{}, Owner: "simulator"}); err != nil {
		t.Fatal(err)
	}
	sim, err := simulator.New(ctx, simulator.Options{Guests: guests})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := sim.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return vendor{sim, server.URL}
}

// patience is longer than anything takes that works.
const patience = time.Minute

// settings are for a simulator.
func (v vendor) settings() map[string]any {
	return map[string]any{"base_url": v.url + "/api"}
}

func secrets() map[string][]byte { return map[string][]byte{"api_key": []byte(simulator.DefaultKey)} }

// plugin is the driver, served and configured for a simulator.
type plugin struct {
	t *testing.T
	providerv1.ProviderServiceClient
	ctx context.Context
}

func newPlugin(t *testing.T, v vendor, state string, more map[string]any) plugin {
	t.Helper()
	driver := daytona.New(daytona.Options{})
	p := plugin{t: t, ProviderServiceClient: serve(t, driver)}
	t.Cleanup(driver.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	p.ctx = ctx
	settings := v.settings()
	for name, value := range more {
		settings[name] = value
	}
	values, err := structpb.NewStruct(settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Configure(ctx, &providerv1.ConfigureRequest{Settings: values, Secrets: secrets(), StateDir: state, Owner: "brk_1"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func newID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

func newRequest() *providerv1.CreateSandboxRequest {
	key := rand.Text()
	digest := sha256.Sum256([]byte(key))
	return &providerv1.CreateSandboxRequest{
		Operation: &providerv1.Operation{IdempotencyKey: key, RequestDigest: digest[:]},
		Identity:  &providerv1.Identity{SandboxId: newID("sbx"), Owner: "brk_1"},
		Spec:      &providerv1.SandboxSpec{},
	}
}

func (p plugin) create(req *providerv1.CreateSandboxRequest) *providerv1.SandboxRef {
	p.t.Helper()
	resp, err := p.CreateSandbox(p.ctx, req)
	if err != nil {
		p.t.Fatal(err)
	}
	return &providerv1.SandboxRef{SandboxId: resp.GetSandbox().GetIdentity().GetSandboxId(), Handle: resp.GetSandbox().GetHandle()}
}

func byKey(key string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key}}
}

// start starts a command and returns its id.
func (p plugin) start(ref *providerv1.SandboxRef, argv ...string) string {
	p.t.Helper()
	id := newID("exe")
	digest := sha256.Sum256([]byte(id))
	if _, err := p.StartExec(p.ctx, &providerv1.StartExecRequest{
		Sandbox: ref, ExecId: id, RequestDigest: digest[:], Spec: &providerv1.ExecSpec{Argv: argv},
	}); err != nil {
		p.t.Fatal(err)
	}
	return id
}

// read follows a command to its end.
func (p plugin) read(ref *providerv1.SandboxRef, id string) (string, *providerv1.ExitStatus) {
	p.t.Helper()
	stream, err := p.AttachExec(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	send := func(in *providerv1.ExecInput) {
		if err := stream.Send(&providerv1.AttachExecRequest{Input: in}); err != nil && !errors.Is(err, io.EOF) {
			p.t.Fatal(err)
		}
	}
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref, ExecId: id}}})
	var out strings.Builder
	for {
		resp, err := stream.Recv()
		if err != nil {
			p.t.Fatalf("after %q: %v", out.String(), err)
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Data:
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDOUT {
				out.Write(f.Data.GetData())
				send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: int64(out.Len())}}})
			}
		case *providerv1.ExecOutput_Fault:
			p.t.Fatalf("after %q: %s", out.String(), f.Fault.GetMessage())
		case *providerv1.ExecOutput_Done:
			return out.String(), f.Done.GetExit()
		}
	}
}

func (p plugin) run(ref *providerv1.SandboxRef, argv ...string) (string, *providerv1.ExitStatus) {
	p.t.Helper()
	return p.read(ref, p.start(ref, argv...))
}

// refused checks why a call was refused, and what it may have done.
func refused(t *testing.T, what string, err error, reason providerv1.ErrorReason, effect providerv1.Effect) *fault.Error {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Reason != reason || f.Effect != effect {
		t.Fatalf("%s answers %v: want %s with effect %s", what, err, fault.Name(reason), fault.EffectName(effect))
	}
	return f
}
