package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

const roleKey = "SANDBAR_SDK_TEST_ROLE"

// reexecuted runs the part that a re-executed test binary plays, if it is one.
func reexecuted() bool {
	switch os.Getenv(roleKey) {
	case "plugin":
		fmt.Println("a careless driver prints before it is served")
		_, _ = syscall.Write(1, []byte("and to the descriptor itself\n"))
		d := newTiny("egress.deny")
		d.hook = func(_ context.Context, method string) error {
			if method == "Configure" {
				select {} // a driver that is stuck for good
			}
			return nil
		}
		sdk.Serve(d, sdk.Options{})
	case "works":
		sdk.Serve(newTiny("egress.deny"), sdk.Options{})
	case "host": // starts a plugin and waits to be killed
		cmd := plugin()
		cmd.Env = append(cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		return false
	}
	return true
}

// plugin is this test binary as a plugin process.
func plugin(args ...string) *osexec.Cmd {
	cmd := osexec.Command(os.Args[0], args...)
	cmd.Env = []string{roleKey + "=plugin", handshake.CookieKey + "=" + handshake.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1"}
	return cmd
}

// started is a running plugin process after its handshake.
type started struct {
	cmd    *osexec.Cmd
	out    *bufio.Reader
	stderr bytes.Buffer
	client providerv1.ProviderServiceClient
}

func startPlugin(t *testing.T, role string) *started {
	t.Helper()
	s := &started{cmd: plugin()}
	s.cmd.Env = append(s.cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+t.TempDir(), roleKey+"="+role)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	s.out = bufio.NewReader(stdout)
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("handshake: %v\n%s", err, s.stderr.String())
	}
	s.client = dialHandshake(t, line)
	return s
}

// dialHandshake checks the handshake line and connects to what it names.
func dialHandshake(t *testing.T, line string) providerv1.ProviderServiceClient {
	t.Helper()
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 5 || parts[0] != "1" || parts[1] != "1" || parts[2] != "unix" || parts[4] != "grpc" {
		t.Fatalf("the first line of stdout is %q, not a handshake", line)
	}
	conn, err := grpc.NewClient("unix:"+parts[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return providerv1.NewProviderServiceClient(conn)
}

func describe(t *testing.T, client providerv1.ProviderServiceClient) {
	t.Helper()
	resp, err := client.Describe(within(t, patience), &providerv1.DescribeRequest{})
	if err != nil || resp.GetName() != "tiny" {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestPluginProcessKeepsStdoutForTheHandshake(t *testing.T) {
	s := startPlugin(t, "plugin")
	describe(t, s.client)
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	describe(t, s.client) // Ctrl-C is the host's to handle
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(s.out)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if len(rest) > 0 {
		t.Errorf("behind the handshake, stdout got %q", rest)
	}
	for _, want := range []string{"a careless driver prints", "to the descriptor itself", "plugin is stopping"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, s.stderr.String())
		}
	}
}

// TestSignalsThatDoNothingToThePluginEndItsChildren: what the plugin ignored it
// would hand down to every process that it starts.
func TestSignalsThatDoNothingToThePluginEndItsChildren(t *testing.T) {
	s := startPlugin(t, "works")
	if _, err := s.client.Configure(within(t, patience), &providerv1.ConfigureRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.CreateSandbox(within(t, patience), createRequest("sbx_1")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"PIPE", "INT"} {
		begin(t, s.client, startRequest("exe_"+name, "/bin/sh", "-c", "kill -"+name+" $$; echo lives"))
		got := attachAll(t, s.client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_" + name})
		if got.done.GetExit().GetSignal() != "SIG"+name || got.out.Len() > 0 {
			t.Errorf("a child that got SIG%s: %q, %v, want its death", name, got.out.String(), got.done)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGINT} {
		if err := s.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	describe(t, s.client)
}

// TestPluginEndsWhenItsHostIsKilled kills a host with SIGKILL; the plugin holds
// the other end of a pipe, which is how its end is seen.
func TestPluginEndsWhenItsHostIsKilled(t *testing.T) {
	host := plugin()
	host.Env = []string{roleKey + "=host", "PLUGIN_UNIX_SOCKET_DIR=" + t.TempDir()}
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	host.Stdout = w
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	client := dialHandshake(t, line)
	describe(t, client)
	if _, err := client.Configure(within(t, 100*time.Millisecond), &providerv1.ConfigureRequest{}); err == nil {
		t.Error("Configure of a stuck driver succeeded")
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	if err := r.SetReadDeadline(time.Now().Add(handshake.OrphanExit)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out); err != nil {
		t.Errorf("the plugin lives %v after its host: %v", handshake.OrphanExit, err)
	}
}

func TestDescribeFlagPrintsTheManifest(t *testing.T) {
	cmd := plugin(handshake.DescribeFlag)
	cmd.Env = cmd.Env[:1] // a packager has no cookie
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, manifest, found := bytes.Cut(out, []byte("{")) // the careless driver printed too: without a cookie, stdout is its own
	m, err := handshake.DecodeManifest(append([]byte("{"), manifest...))
	if err != nil || !found {
		t.Fatalf("%v in %s", err, out)
	}
	if m.Describe.GetName() != "tiny" || m.ProtocolMajors[0] != handshake.ProtocolMajor || len(m.Describe.GetCapabilities()) != 1 {
		t.Errorf("%v", m)
	}
}

func TestAPersonGetsASentence(t *testing.T) {
	cmd := plugin()
	cmd.Env = cmd.Env[:1]
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "sandbar-provider-tiny is a plugin of Sandbar") {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

func TestSocketsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	cmd := plugin()
	cmd.Env = append(cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
