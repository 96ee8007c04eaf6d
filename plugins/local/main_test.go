package local_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/plugins/local"
	"github.com/sandbar-dev/sandbar/plugins/local/unprivileged"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// binaryFlag names the provider's binary in the copy of the tests that runs as
// an ordinary user.
const binaryFlag = "SANDBAR_TEST_BINARY"

// binary is the real provider: sandboxes' processes need a statically linked
// binary, which one with the race detector is not.
var binary = os.Getenv(binaryFlag)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if len(os.Args) == 2 && os.Args[1] == local.ProbeCommand {
		return 0
	}
	if binary == "" {
		dir, err := os.MkdirTemp("", "sl")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0o755); err != nil {
			panic(err)
		}
		binary = filepath.Join(dir, "sandbar-provider-local")
		// The flags of `make build`, so that its cache serves.
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/sandbar-provider-local")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		build = exec.Command("go", "build", "-trimpath", "-o", toolFile(), "./runsc/testdata/tool")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// toolFile is the one program of the images that tests make.
func toolFile() string { return filepath.Join(filepath.Dir(binary), "tool") }

// TestRootless runs every other test of this package once more as an ordinary
// user.
func TestRootless(t *testing.T) {
	unprivileged.Again(t, unprivileged.Nameless, os.Getenv("SANDBAR_TEST_ROOTLESS_RUN"), binaryFlag+"="+binary)
}

// plugin is a provider over a real connection, which can be restarted as the
// broker would after a crash: nothing is told to the old one.
type plugin struct {
	t      *testing.T
	state  string
	client providerv1.ProviderServiceClient
	stop   func()
}

const owner = "own_test"

func start(t *testing.T) *plugin {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{t: t, state: filepath.Join(dir, "state")}
	p.run()
	t.Cleanup(func() {
		p.deleteAll()
		p.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *plugin) run() {
	p.t.Helper()
	log := slog.New(slog.NewTextHandler(logWriter{p.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	driver := local.New(local.Options{Version: "0.0.0-test", Binary: binary, Log: log})
	server, err := sdk.NewServer(driver, sdk.Options{Logger: log})
	if err != nil {
		p.t.Fatal(err)
	}
	g := grpc.NewServer(sdk.ServerOptions()...)
	server.Register(g)
	socket := filepath.Join(filepath.Dir(p.state), "p.sock")
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		p.t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.client = providerv1.NewProviderServiceClient(conn)
	p.stop = func() {
		_ = conn.Close()
		g.Stop()
		<-served
		server.Close()
		if err := driver.Close(); err != nil {
			p.t.Error(err)
		}
	}
	ctx := p.ctx()
	if _, err := p.client.Configure(ctx, &providerv1.ConfigureRequest{StateDir: p.state, Owner: owner}); err != nil {
		p.t.Fatal(err)
	}
}

// restart replaces the plugin, as after a crash.
func (p *plugin) restart() {
	p.t.Helper()
	p.stop()
	p.run()
}

// logWriter shows log lines with the test they belong to.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (p *plugin) ctx() context.Context {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	p.t.Cleanup(cancel)
	return ctx
}

func operation() *providerv1.Operation {
	return &providerv1.Operation{IdempotencyKey: rand.Text(), RequestDigest: bytes.Repeat([]byte{7}, 32)}
}

func identity() *providerv1.Identity {
	return &providerv1.Identity{SandboxId: "sbx_" + rand.Text(), Owner: owner}
}

func (p *plugin) create(spec *providerv1.SandboxSpec) *providerv1.SandboxRef {
	p.t.Helper()
	resp, err := p.client.CreateSandbox(p.ctx(), &providerv1.CreateSandboxRequest{
		Operation: operation(), Identity: identity(), Spec: spec,
	})
	if err != nil {
		p.t.Fatalf("create: %v", err)
	}
	if s := resp.GetSandbox().GetState(); s != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		p.t.Fatalf("created sandbox is %v", s)
	}
	return ref(resp.GetSandbox())
}

func ref(sb *providerv1.Sandbox) *providerv1.SandboxRef {
	return &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId(), Handle: sb.GetHandle()}
}

func (p *plugin) get(r *providerv1.SandboxRef) (*providerv1.Sandbox, error) {
	resp, err := p.client.GetSandbox(p.ctx(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: r}})
	return resp.GetSandbox(), err
}

func (p *plugin) list() []*providerv1.Sandbox {
	p.t.Helper()
	resp, err := p.client.ListSandboxes(p.ctx(), &providerv1.ListSandboxesRequest{Owner: owner})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.GetSandboxes()
}

func (p *plugin) delete(r *providerv1.SandboxRef) {
	p.t.Helper()
	if _, err := p.client.DeleteSandbox(p.ctx(), &providerv1.DeleteSandboxRequest{Sandbox: r}); err != nil {
		p.t.Errorf("delete: %v", err)
	}
}

// deleteAll ends what a test made, and checks that nothing of it is left.
func (p *plugin) deleteAll() {
	p.t.Helper()
	for _, sb := range p.list() {
		p.delete(ref(sb))
	}
	left, err := filepath.Glob(filepath.Join(p.state, "sandboxes", "*"))
	if err != nil || len(left) != 0 {
		p.t.Errorf("folders are left: %v %v", left, err)
	}
	if procs := processesOf(p.t, p.state); len(procs) != 0 {
		p.t.Errorf("processes are left: %v", procs)
	}
}

// processesOf lists processes that were started for sandboxes in a folder.
func processesOf(t *testing.T, state string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		line, err := os.ReadFile(f)
		if err == nil && bytes.Contains(line, []byte(state)) && !strings.Contains(f, "/self/") {
			out = append(out, f+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

// result is a command's end.
type result struct {
	stdout, stderr string
	exit           *providerv1.ExitStatus
}

// exec runs a command to its end, with optional input.
func (p *plugin) exec(r *providerv1.SandboxRef, spec *providerv1.ExecSpec, stdin io.Reader) result {
	p.t.Helper()
	id := p.startExec(r, spec)
	var out, errs bytes.Buffer
	exit := p.attach(r, id, &providerv1.ExecOpen{Stdin: stdin != nil}, stdin, &out, &errs)
	return result{out.String(), errs.String(), exit}
}

func (p *plugin) sh(r *providerv1.SandboxRef, script string) result {
	p.t.Helper()
	return p.exec(r, &providerv1.ExecSpec{Argv: []string{"sh", "-c", script}}, nil)
}

func (p *plugin) startExec(r *providerv1.SandboxRef, spec *providerv1.ExecSpec) string {
	p.t.Helper()
	id := "exe_" + rand.Text()
	if _, err := p.client.StartExec(p.ctx(), &providerv1.StartExecRequest{
		Sandbox: r, ExecId: id, RequestDigest: bytes.Repeat([]byte{1}, 32), Spec: spec,
	}); err != nil {
		p.t.Fatalf("start exec: %v", err)
	}
	return id
}

// attach reads a command to its end, acknowledging as it goes, and returns how
// it ended. It returns nil if stop, on each piece of output, says so.
func (p *plugin) attach(r *providerv1.SandboxRef, id string, open *providerv1.ExecOpen, stdin io.Reader, out, errs io.Writer) *providerv1.ExitStatus {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.ctx())
	defer cancel()
	stream, err := p.client.AttachExec(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	open.Sandbox, open.ExecId = r, id
	sends := make(chan *providerv1.ExecInput, 64)
	go func() {
		for in := range sends {
			if stream.Send(&providerv1.AttachExecRequest{Input: in}) != nil {
				for range sends { // so that no sender blocks
				}
			}
		}
	}()
	defer close(sends)
	sends <- &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: open}}
	fed := make(chan struct{})
	go func() { defer close(fed); feed(ctx, stdin, sends) }()
	defer func() { cancel(); <-fed }()
	var ack providerv1.ExecAck
	for {
		m, err := stream.Recv()
		if err != nil {
			p.t.Errorf("attach: %v", err)
			return nil
		}
		switch f := m.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Data:
			w, next := out, &ack.Stdout
			if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR {
				w, next = errs, &ack.Stderr
			}
			if _, err := w.Write(f.Data.GetData()); errors.Is(err, errEnough) {
				return nil
			}
			*next = f.Data.GetOffset() + int64(len(f.Data.GetData()))
			select {
			case sends <- &providerv1.ExecInput{Frame: &providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: ack.Stdout, Stderr: ack.Stderr}}}:
			default:
			}
		case *providerv1.ExecOutput_Done:
			return f.Done.GetExit()
		case *providerv1.ExecOutput_Fault:
			p.t.Errorf("attach: %v", f.Fault)
			return nil
		}
	}
}

// errEnough is returned by a writer that has seen what it waits for.
var errEnough = errors.New("enough")

func feed(ctx context.Context, stdin io.Reader, sends chan<- *providerv1.ExecInput) {
	if stdin == nil {
		return
	}
	var off int64
	for {
		buf := make([]byte, 32<<10)
		n, err := stdin.Read(buf)
		if n > 0 {
			select {
			case sends <- &providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: off, Data: buf[:n]}}}:
			case <-ctx.Done():
				return
			}
			off += int64(n)
		}
		if err != nil {
			break
		}
	}
	select {
	case sends <- &providerv1.ExecInput{Frame: &providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: off}}}:
	case <-ctx.Done():
	}
}
