package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/api"
	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stack is a whole broker around a vendor in memory, served on a Unix socket.
type stack struct {
	vendor  *testvendor.Vendor
	service *broker.Service
	client  *apiclient.Client
	socket  string
}

func newStack(tb testing.TB, auth api.Authenticator) *stack {
	tb.Helper()
	dir := tb.TempDir()
	s := &stack{vendor: testvendor.New(), socket: filepath.Join(dir, "api.sock")}
	stop, err := testvendor.Serve(s.vendor, filepath.Join(dir, "vendor.sock"))
	check(tb, err)
	tb.Cleanup(stop)
	fleet := &testvendor.Fleet{}
	check(tb, fleet.Dial("test", filepath.Join(dir, "vendor.sock")))
	tb.Cleanup(fleet.Close)
	store, err := sqlite.Open(tb.Context(), filepath.Join(dir, "state.db"))
	check(tb, err)
	tb.Cleanup(func() { check(tb, store.Close()) })
	s.service, err = broker.New(tb.Context(), store, fleet, broker.Options{})
	check(tb, err)
	tb.Cleanup(func() { s.service.Close(context.Background()) })
	s.serve(tb, api.New(s.service, nil, api.Options{Auth: auth}))
	s.client = apiclient.Unix(s.socket)
	tb.Cleanup(s.client.Close)
	return s
}

func (s *stack) serve(tb testing.TB, h http.Handler) {
	tb.Helper()
	l, err := net.Listen("unix", s.socket)
	check(tb, err)
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(l) })
	tb.Cleanup(func() { check(tb, srv.Close()); done.Wait() })
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (s *stack) create(tb testing.TB, req *brokerv1.CreateSandboxRequest) *brokerv1.Sandbox {
	tb.Helper()
	res, err := s.client.CreateSandbox(tb.Context(), connect.NewRequest(req))
	check(tb, err)
	return res.Msg.GetSandbox()
}

func (s *stack) start(tb testing.TB, sandbox string, argv ...string) string {
	tb.Helper()
	res, err := s.client.StartExec(tb.Context(), connect.NewRequest(&providerv1.StartExecRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: sandbox}, Spec: &providerv1.ExecSpec{Argv: argv, Stdin: true},
	}))
	check(tb, err)
	return res.Msg.GetExec().GetExecId()
}

func (s *stack) attach(tb testing.TB, sandbox, exec string) *connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse] {
	tb.Helper()
	stream := s.client.AttachExec(tb.Context())
	check(tb, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{
		Sandbox: &providerv1.SandboxRef{SandboxId: sandbox}, ExecId: exec, Stdin: true,
	}}})))
	return stream
}

func input(in *providerv1.ExecInput) *providerv1.AttachExecRequest {
	return &providerv1.AttachExecRequest{Input: in}
}

func TestSandboxFromBirthToDeath(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{Name: "first", Labels: map[string]string{"a": "b"}})
	if sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING || sb.GetProvider() != "test" || sb.GetObserved().GetHandle() != nil {
		t.Fatalf("created %v", sb)
	}
	got, err := s.client.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: "first"}))
	check(t, err)
	if got.Msg.GetSandbox().GetSandboxId() != sb.GetSandboxId() {
		t.Errorf("get by name returned %v", got.Msg)
	}
	list, err := s.client.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{Labels: map[string]string{"a": "b"}}))
	check(t, err)
	if n := len(list.Msg.GetSandboxes()); n != 1 {
		t.Errorf("list has %d sandboxes, want 1", n)
	}
	exec := s.start(t, "first", "cat")
	stream := s.attach(t, "first", exec)
	check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Data: []byte("hello")}}})))
	check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: 5}}})))
	out, done := drain(t, stream)
	if string(out) != "hello" || done.GetExit().GetCode() != 0 || done.GetStdoutTotal() != 5 {
		t.Errorf("cat said %q and ended with %v", out, done)
	}
	for _, absent := range []bool{false, true} {
		res, err := s.client.DeleteSandbox(t.Context(), connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: sb.GetSandboxId()}))
		check(t, err)
		if res.Msg.GetAlreadyAbsent() != absent {
			t.Errorf("delete says already_absent=%v, want %v", res.Msg.GetAlreadyAbsent(), absent)
		}
	}
	if n := len(s.vendor.Sandboxes()); n != 0 {
		t.Errorf("the vendor still has %d sandboxes", n)
	}
}

// drain reads a stream of exec output to its end.
func drain(tb testing.TB, stream *connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) ([]byte, *providerv1.ExecDone) {
	tb.Helper()
	var out bytes.Buffer
	var done *providerv1.ExecDone
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			check(tb, stream.CloseRequest())
			check(tb, stream.CloseResponse())
			return out.Bytes(), done
		}
		check(tb, err)
		out.Write(msg.GetOutput().GetData().GetData())
		if d := msg.GetOutput().GetDone(); d != nil {
			done = d
		}
	}
}

func TestFaultsArriveWhole(t *testing.T) {
	s := newStack(t, nil)
	_, err := s.client.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: "nobody"}))
	var f *fault.Error
	if !errors.As(err, &f) || !f.Wire || f.Reason != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND || f.Metadata["sandbox_id"] != "nobody" {
		t.Errorf("get: %#v", err)
	}
	_, err = s.client.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "Not OK"}))
	if !errors.As(err, &f) || len(f.Fields) != 1 || f.Fields[0].Field != "name" || f.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("create: %#v", err)
	}
	stream := s.attach(t, "nobody", "exe_1")
	_, err = stream.Receive()
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Errorf("attach: %v", err)
	}
}

func TestStreamEndsWithTheProviderNotTheClient(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{})
	exec := s.start(t, sb.GetSandboxId(), "exit", "7")
	// The client keeps its side open; the answer must end all the same.
	stream := s.attach(t, sb.GetSandboxId(), exec)
	if _, done := drain(t, stream); done.GetExit().GetCode() != 7 {
		t.Errorf("ended with %v, want code 7", done)
	}
}

func TestClientThatLeavesDetaches(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{})
	exec := s.start(t, sb.GetSandboxId(), "sleep")
	ctx, cancel := context.WithCancel(t.Context())
	stream := s.client.AttachExec(ctx)
	check(t, stream.Send(input(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{
		Sandbox: &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}, ExecId: exec,
	}}})))
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Receive(); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CANCELED) {
		t.Errorf("receive after cancel: %v", err)
	}
	res, err := s.client.GetExec(t.Context(), connect.NewRequest(&providerv1.GetExecRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}, ExecId: exec,
	}))
	check(t, err)
	if res.Msg.GetExec().GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("the command is %v, want RUNNING", res.Msg.GetExec().GetState())
	}
}

func TestFilesBothWays(t *testing.T) {
	s := newStack(t, nil)
	sb := s.create(t, &brokerv1.CreateSandboxRequest{})
	ref := &providerv1.SandboxRef{SandboxId: sb.GetSandboxId()}
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	up := s.client.WriteFile(t.Context())
	check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: ref, Path: "/f"}}}))
	for rest := content; len(rest) > 0; rest = rest[min(len(rest), 32<<10):] {
		check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: rest[:min(len(rest), 32<<10)]}}))
	}
	check(t, up.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}}))
	_, err := up.CloseAndReceive()
	check(t, err)
	down, err := s.client.ReadFile(t.Context(), connect.NewRequest(&providerv1.ReadFileRequest{Sandbox: ref, Path: "/f"}))
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
}

func TestJSONOverHTTP1(t *testing.T) {
	s := newStack(t, nil)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sandbar/sandbar.broker.v1.SandboxService/CreateSandbox", bytes.NewBufferString(`{"name":"json"}`))
	check(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Do(req)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	if res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`SANDBOX_STATE_RUNNING`)) {
		t.Errorf("answered %d %s", res.StatusCode, body)
	}
}
