package sdk_test

import (
	"bufio"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

const (
	howto   = "../../docs/howto/write-a-provider.md"
	minimal = "testdata/minimal/main.go"
)

// TestHowtoShowsTheProviderThatIsTested keeps the document and the program one.
func TestHowtoShowsTheProviderThatIsTested(t *testing.T) {
	doc, err := os.ReadFile(howto)
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(minimal)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(doc), "```go\n")
	shown, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed || shown != string(code) {
		t.Errorf("the first Go block of %s is not %s", howto, minimal)
	}
	if n := strings.Count(string(code), "\n"); n >= 100 {
		t.Errorf("the minimal provider has %d lines; want fewer than 100", n)
	}
}

// TestMinimalProviderWorks builds it, starts it as a plugin and runs a command.
func TestMinimalProviderWorks(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "sandbar-provider-minimal")
	build := osexec.Command("go", "build", "-o", binary, "./testdata/minimal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := osexec.Command(binary)
	cmd.Env = []string{handshake.CookieKey + "=" + handshake.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + t.TempDir()}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	client := dialHandshake(t, line)
	if _, err := client.Configure(within(t, patience), &providerv1.ConfigureRequest{StateDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateSandbox(within(t, patience), createRequest("sbx_1"))
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED) // it cannot deny egress, so it says so
	req := createRequest("sbx_1")
	req.Spec = &providerv1.SandboxSpec{Egress: &providerv1.Egress{Mode: providerv1.EgressMode_EGRESS_MODE_OPEN}}
	if _, err := client.CreateSandbox(within(t, patience), req); err != nil {
		t.Fatal(err)
	}
	late := createRequest("sbx_2")
	late.Spec = req.GetSpec()
	_, err = client.GetSandbox(within(t, patience), byKey(late.GetOperation()))
	wantReason(t, err, notFound)
	_, err = client.CreateSandbox(within(t, patience), late)
	wantReason(t, err, keyReused) // by the SDK: the example knows nothing of it
	begin(t, client, startRequest("exe_1", "/bin/sh", "-c", "echo out; echo err >&2; exit 7"))
	got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if got.out.String() != "out\n" || got.err.String() != "err\n" || got.done.GetExit().GetCode() != 7 {
		t.Errorf("%q %q %v", got.out.String(), got.err.String(), got.done)
	}
}
