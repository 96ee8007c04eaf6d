package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binariesFlag names the folder of the binaries in the copy of the tests that
// runs as an ordinary user.
const binariesFlag = "SANDBAR_E2E_BINARIES"

// binaries is the folder of the real binaries: sandbar, its providers, guest, and
// another version of sandbar in other/.
var binaries = os.Getenv(binariesFlag)

// ordinaryUser has no name, no home and no subordinate ids.
const ordinaryUser = 12345

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if binaries == "" {
		dir, err := os.MkdirTemp("", "e2")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := build(dir); err != nil {
			panic(err)
		}
		binaries = dir
	}
	return m.Run()
}

// build makes the binaries with the flags of `make build`, so that its cache
// serves.
func build(dir string) error {
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "other"), 0o755)); err != nil {
		return err
	}
	const flags = "-s -w -X main.version="
	for _, b := range [][2]string{
		{flags + "e2e", "./cmd/sandbar ./cmd/sandbar-provider-local ./cmd/sandbar-provider-fake ./cmd/sandbar/internal/e2e/testdata/guest"},
		{flags + "another", "./cmd/sandbar"},
	} {
		out := dir
		if strings.HasSuffix(b[0], "another") {
			out = filepath.Join(dir, "other")
		}
		args := append([]string{"build", "-trimpath", "-ldflags", b[0], "-o", out + "/"}, strings.Fields(b[1])...)
		cmd := exec.Command("go", args...)
		cmd.Dir = "../../../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %q: %w\n%s", args, err, text)
		}
	}
	return nil
}

// TestAsOrdinaryUser runs every other test once more without any rights.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("already an ordinary user")
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "e2") // not t.TempDir, whose parents only root may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	tests, tmp := filepath.Join(dir, "t"), filepath.Join(dir, "u")
	if err := errors.Join(
		os.Chmod(dir, 0o755), os.WriteFile(tests, self, 0o755),
		os.Mkdir(tmp, 0o700), os.Chown(tmp, ordinaryUser, ordinaryUser),
	); err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.timeout=10m"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	if run := os.Getenv("SANDBAR_E2E_ORDINARY_RUN"); run != "" {
		args = append(args, "-test.run="+run)
	}
	cmd := exec.CommandContext(t.Context(), tests, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = tmp
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + tmp, "TMPDIR=" + tmp, binariesFlag + "=" + binaries}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	out, err := cmd.CombinedOutput()
	if testing.Verbose() || err != nil {
		t.Logf("as user %d:\n%s", ordinaryUser, out)
	}
	if err != nil {
		t.Error(err)
	}
}
