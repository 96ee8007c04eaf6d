package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/session"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// stack is one user's Sandbar, made of the real binaries.
type stack struct {
	dir, bin string
	env      []string
	client   *apiclient.Client
}

// startStack starts a broker on demand, as the CLI does for a user, with the
// configuration of a user who has none, or the one given.
func startStack(t *testing.T, bin string, config ...string) *stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "b") // short, as the paths of sockets must be
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{dir: dir, bin: bin, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"XDG_STATE_HOME=" + filepath.Join(dir, "s"), "XDG_RUNTIME_DIR=" + filepath.Join(dir, "r"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "c"),
	}}
	for _, sub := range []string{"s", "r", "c", "c/sandbar"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range config {
		if err := os.WriteFile(filepath.Join(dir, "c", "sandbar", "config.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		s.sandbar(t, "daemon", "stop")
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.sandbar(t, "run", "--", "/bin/true")
	sockets, err := filepath.Glob(filepath.Join(dir, "r", "sandbar", "*.sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets of the broker: %v, %v; want one", sockets, err)
	}
	s.client = apiclient.Unix(sockets[0])
	t.Cleanup(s.client.Close)
	return s
}

// command is a call of the CLI.
func (s *stack) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "sandbar"), args...)
	cmd.Env = s.env
	return cmd
}

func (s *stack) sandbar(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(context.Background(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sandbar %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// create makes a sandbox that ends with the test.
func (s *stack) create(t *testing.T) string {
	t.Helper()
	res, err := s.client.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	if err != nil {
		t.Fatalf("create sandbox: %v", err)
	}
	id := res.Msg.GetSandbox().GetSandboxId()
	t.Cleanup(func() { s.remove(t, id) })
	return id
}

func (s *stack) remove(t *testing.T, id string) {
	t.Helper()
	_, err := s.client.DeleteSandbox(context.WithoutCancel(t.Context()), connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: id}))
	if err != nil {
		t.Errorf("delete sandbox %s: %v", id, err)
	}
}

// door is a place where commands can be started: the broker, a plugin or a shim.
type door struct {
	name    string
	sandbox *providerv1.SandboxRef
	start   func(context.Context, *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error)
	dial    session.Dial
}

// run runs a command to its end and fails the test if that is not exit 0.
func (d *door) run(ctx context.Context, t *testing.T, spec *providerv1.ExecSpec, stdin io.Reader, stdout io.Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spec.Stdin = stdin != nil
	req := &providerv1.StartExecRequest{Sandbox: d.sandbox, ExecId: "exe_" + provider.NewKey(), Spec: spec}
	req.RequestDigest = provider.Digest(spec)
	if _, err := d.start(ctx, req); err != nil {
		t.Fatalf("start %q through the %s: %v", spec.GetArgv(), d.name, err)
	}
	open := &providerv1.ExecOpen{Sandbox: d.sandbox, ExecId: req.GetExecId(), Stdin: stdin != nil}
	a := session.New(open, session.Options{Stdout: stdout})
	fed := make(chan error, 1)
	go func() {
		var err error
		if stdin != nil {
			_, err = io.Copy(a, stdin)
			err = errors.Join(err, a.Close())
		}
		fed <- err
	}()
	res, err := a.Run(ctx, d.dial)
	if err := errors.Join(err, <-fed); err != nil {
		t.Fatalf("follow %q through the %s: %v", spec.GetArgv(), d.name, err)
	}
	if res.Exit.GetSignal() != "" || res.Exit.GetCode() != 0 {
		t.Fatalf("%q through the %s ended with %v", spec.GetArgv(), d.name, res.Exit)
	}
}

// brokerDoor leads through everything.
func (s *stack) brokerDoor(id string) *door {
	return &door{
		name: "broker", sandbox: &providerv1.SandboxRef{SandboxId: id},
		start: func(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
			res, err := s.client.StartExec(ctx, connect.NewRequest(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		},
		dial: func(ctx context.Context) (session.Transport, error) {
			return connectFrames{s.client.AttachExec(ctx)}, nil
		},
	}
}

type connectFrames struct {
	*connect.BidiStreamForClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
}

func (c connectFrames) Send(in *providerv1.ExecInput) error {
	return c.BidiStreamForClient.Send(&providerv1.AttachExecRequest{Input: in})
}

func (c connectFrames) Recv() (*providerv1.ExecOutput, error) {
	res, err := c.Receive()
	return res.GetOutput(), err
}

// grpcDoor leads to whatever serves the contract.
func grpcDoor(name, id string, client providerv1.ProviderServiceClient) *door {
	return &door{
		name: name, sandbox: &providerv1.SandboxRef{SandboxId: id},
		start: func(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
			return client.StartExec(ctx, req)
		},
		dial: func(ctx context.Context) (session.Transport, error) {
			stream, err := client.AttachExec(ctx)
			return grpcFrames{stream}, err
		},
	}
}

type grpcFrames struct {
	stream grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]
}

func (g grpcFrames) Send(in *providerv1.ExecInput) error {
	return g.stream.Send(&providerv1.AttachExecRequest{Input: in})
}

func (g grpcFrames) Recv() (*providerv1.ExecOutput, error) {
	res, err := g.stream.Recv()
	return res.GetOutput(), err
}

// pluginDoors start a provider's plugin without a broker and make a sandbox with
// it. The first door leads through the plugin, the second, of the local provider
// alone, to the sandbox's own process.
func pluginDoors(t *testing.T, bin, name string) (plugin, shim *door) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	host, err := pluginhost.New(pluginhost.Options{
		Dirs: []pluginhost.Dir{{Path: bin, Trust: pluginhost.TrustLocation}}, Plugins: []pluginhost.Config{{Name: name}},
		RuntimeDir: filepath.Join(dir, "r"), StateDir: filepath.Join(dir, "s"), LockFile: filepath.Join(dir, "lock"), Owner: "brk_bench",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(context.WithoutCancel(t.Context())) })
	conn, err := host.Plugin(name)
	if err != nil {
		t.Fatal(err)
	}
	p := provider.New(name, conn, provider.Options{})
	if _, err := p.Capabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := &providerv1.CreateSandboxRequest{
		Identity: &providerv1.Identity{SandboxId: "sbx_" + provider.NewKey(), Owner: "brk_bench"}, Spec: &providerv1.SandboxSpec{},
	}
	req.Operation = &providerv1.Operation{IdempotencyKey: provider.NewKey(), RequestDigest: provider.Digest(req)}
	if _, err := p.CreateSandbox(t.Context(), req); err != nil {
		t.Fatalf("create sandbox with the plugin %s: %v", name, err)
	}
	id := req.GetIdentity().GetSandboxId()
	t.Cleanup(func() {
		_, err := p.DeleteSandbox(context.WithoutCancel(t.Context()), &providerv1.DeleteSandboxRequest{Sandbox: &providerv1.SandboxRef{SandboxId: id}})
		if err != nil {
			t.Error(err)
		}
	})
	plugin = grpcDoor("plugin", id, p)
	sockets, _ := filepath.Glob(filepath.Join(dir, "s", "*", "sandboxes", id, "shim.sock"))
	if len(sockets) == 0 {
		return plugin, nil
	}
	direct, err := grpc.NewClient("unix:"+sockets[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	return plugin, grpcDoor("shim", id, providerv1.NewProviderServiceClient(direct))
}

// proportionalSet returns the memory of a process in KiB, shared pages divided
// by their users.
func proportionalSet(t *testing.T, pid string) int64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", pid, "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			return number(t, strings.Fields(rest)[0])
		}
	}
	t.Fatalf("process %s has no PSS", pid)
	return 0
}

// descendants returns the processes below the one that has arg as an argument,
// itself first.
func descendants(t *testing.T, arg string) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for grown := true; grown; {
		grown = false
		for _, dir := range dirs {
			pid := filepath.Base(dir)
			if slices.Contains(all, pid) {
				continue
			}
			cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
			_, after, _ := strings.Cut(string(stat), ") ")
			fields := strings.Fields(after)
			if len(all) == 0 && slices.Contains(strings.Split(string(cmdline), "\x00"), arg) ||
				len(fields) > 1 && slices.Contains(all, fields[1]) {
				all, grown = append(all, pid), true
			}
		}
	}
	return all
}
