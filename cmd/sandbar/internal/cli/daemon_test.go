package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestKilledBrokerIsNeverSuccess kills the broker under a running command. It
// is started again, knows nothing of the command any more, and the end is 125.
func TestKilledBrokerIsNeverSuccess(t *testing.T) {
	run, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	mine := func(args ...string) *exec.Cmd {
		cmd := sandbarCommand(t, "", args...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+run, "HOME="+home)
		return cmd
	}
	t.Cleanup(func() {
		if out, err := mine("daemon", "stop").CombinedOutput(); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
		_ = os.RemoveAll(run)
	})
	cmd := mine("run", "--", "sh", "-c", "echo ready; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(brokerPID(t, run), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 125 || !strings.Contains(errOut.String(), "does not exist") {
		t.Errorf("exit code %d, want 125; stderr %q", got, errOut.String())
	}
}

func brokerPID(t *testing.T, run string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(run, "sandbar", "server.json"))
	if err != nil {
		t.Fatal(err)
	}
	var card struct{ PID int }
	if err := json.Unmarshal(raw, &card); err != nil || card.PID <= 1 {
		t.Fatalf("%s: %v", raw, err)
	}
	return card.PID
}

// TestServerSeesNoSecrets: the daemon outlives the shell that started it, and
// so must not have its environment.
func TestServerSeesNoSecrets(t *testing.T) {
	run, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	env := []string{"XDG_RUNTIME_DIR=" + run, "HOME=" + home, "AWS_SECRET_ACCESS_KEY=sentinel", "SANDBAR_API_KEY=sentinel"}
	cmd := sandbarCommand(t, "", "ls")
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		stop := sandbarCommand(t, "", "daemon", "stop")
		stop.Env = append(stop.Env, env...)
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
		_ = os.RemoveAll(run)
	})
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(brokerPID(t, run)), "environ"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(environ, []byte("sentinel")) {
		t.Errorf("the server sees a secret of the shell: %q", environ)
	}
	if !bytes.Contains(environ, []byte("HOME="+home)) {
		t.Errorf("the server does not see HOME: %q", environ)
	}
	info, err := os.Stat(filepath.Join(run, "sandbar"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the socket: %v, %v; want mode 0700", info, err)
	}
}
