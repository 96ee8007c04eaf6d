package runsc_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

// The test binary is also shim, gVisor and agent, as a provider binary is. A scenario is a function that runs in a shim; its
// error is the test's. Roles: "launch" starts a shim as whoever runs it, "scenario" is the shim.
func TestMain(m *testing.M) {
	runsc.Dispatch()
	switch {
	case len(os.Args) > 2 && os.Args[1] == "launch":
		os.Exit(launch(os.Args[2:]))
	case len(os.Args) > 3 && os.Args[1] == "scenario":
		os.Exit(runScenario(os.Args[2], os.Args[3], os.Args[4:]))
	}
	code := m.Run()
	if scenarioFile.dir != "" {
		_ = os.RemoveAll(scenarioFile.dir)
	}
	os.Exit(code)
}

// scenarioFile is this test binary linked statically, which gVisor needs: with cgo or the race detector this process is not.
var scenarioFile struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func scenarioBinary(tb testing.TB) string {
	tb.Helper()
	scenarioFile.once.Do(func() {
		if f, err := elf.Open("/proc/self/exe"); err == nil {
			defer f.Close()
			if f.Section(".interp") == nil {
				scenarioFile.path = "/proc/self/exe"
				return
			}
		}
		if scenarioFile.dir, scenarioFile.err = os.MkdirTemp("", "sbt"); scenarioFile.err != nil {
			return
		}
		scenarioFile.path = filepath.Join(scenarioFile.dir, "scenarios")
		cmd := exec.CommandContext(tb.Context(), "go", "test", "-c", "-o", scenarioFile.path, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			scenarioFile.err = fmt.Errorf("build static test binary: %w\n%s", err, out)
		}
	})
	if scenarioFile.err != nil {
		tb.Fatal(scenarioFile.err)
	}
	return scenarioFile.path
}

// testUser is nobody on purpose: no entry in passwd, no subordinate ids, no home.
const testUser = 12345

// launch ends its shim, which lives in a session of its own, as soon as its standard input ends: with the test, however that
// ends.
func launch(args []string) int {
	cmd := runsc.Shim(context.Background(), "", append([]string{"scenario"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(cmd.Env, "SANDBAR_TEST_CANARY=do-not-leak")
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = cmd.Process.Kill()
	}()
	if err := cmd.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	return 0
}

// env is what a scenario works with.
type env struct {
	dir  string // private to the shim
	args []string
	out  io.Writer
	cfg  runsc.Config
}

func runScenario(name, dir string, args []string) int {
	out, errw := os.Stdout, os.Stderr
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	err := runsc.Enter(dir)
	if err == nil {
		exe := filepath.Join(filepath.Dir(dir), "provider")
		e := &env{dir: dir, args: args, out: out, cfg: runsc.Config{ID: "t", Dir: dir, Root: dir + "/root", Agent: exe, Hostname: "guest"}}
		if f, ok := scenarios[name]; ok {
			err = f(ctx, e)
		} else {
			err = errors.New("no such scenario")
		}
	}
	if err != nil {
		fmt.Fprintln(errw, err)
		return 1
	}
	return 0
}

// create makes the host tree and boots a sandbox with e.cfg.
func (e *env) create(ctx context.Context, binds ...rootfs.Bind) (*runsc.Sandbox, error) {
	if err := rootfs.Host(e.cfg.Root, rootfs.Options{Hostname: "guest", Binds: binds}); err != nil {
		return nil, err
	}
	return runsc.Create(ctx, e.cfg)
}

func (e *env) restore(ctx context.Context, image string) (*runsc.Sandbox, error) {
	if err := rootfs.Host(e.cfg.Root, rootfs.Options{Hostname: "guest"}); err != nil {
		return nil, err
	}
	return runsc.Restore(ctx, e.cfg, image)
}

// run executes a shell script and returns both outputs, trimmed, and the exit.
func run(ctx context.Context, sb *runsc.Sandbox, cmd runsc.Command) (string, runsc.Exit, error) {
	ex, err := sb.Start(ctx, cmd)
	if err != nil {
		return "", runsc.Exit{}, err
	}
	defer ex.Release()
	var stderr bytes.Buffer
	errDone := make(chan struct{})
	go func() {
		defer close(errDone)
		if ex.Stderr != nil {
			_, _ = io.Copy(&stderr, ex.Stderr)
		}
	}()
	stdout, err := io.ReadAll(ex.Stdout)
	<-errDone
	if err != nil {
		return "", runsc.Exit{}, err
	}
	exit, err := ex.Wait(ctx)
	return strings.TrimSpace(string(stdout) + stderr.String()), exit, err
}

func sh(script string) runsc.Command { return runsc.Command{Argv: []string{"sh", "-c", script}} }

// expect runs a script and compares its output.
func expect(ctx context.Context, sb *runsc.Sandbox, script, want string) error {
	got, exit, err := run(ctx, sb, sh(script))
	if err != nil {
		return fmt.Errorf("run %q: %w", script, err)
	}
	if got != want {
		return fmt.Errorf("run %q: got %q (%+v), want %q", script, got, exit, want)
	}
	return nil
}

// workDir returns a directory usable by everybody, with a copy of this binary in it.
func workDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(scenarioBinary(tb))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "provider"), b, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// who are the users that every scenario is run as.
func who(tb testing.TB) map[string]int {
	tb.Helper()
	if os.Geteuid() != 0 {
		return map[string]int{"rootless": os.Geteuid()}
	}
	return map[string]int{"root": 0, "rootless": testUser}
}

func shimCommand(ctx context.Context, tb testing.TB, work string, uid int, scenario string, args ...string) *exec.Cmd {
	tb.Helper()
	dir, err := os.MkdirTemp(work, "s")
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(work, "provider"), append([]string{"launch", scenario, dir}, args...)...)
	cmd.Dir = "/"
	life, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	// The launcher ends after its shim; waiting for both keeps their output.
	cmd.Cancel = life.Close
	cmd.WaitDelay = 10 * time.Second
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		if err := os.Chown(dir, uid, uid); err != nil {
			tb.Fatal(err)
		}
	}
	return cmd
}

// inShim runs a scenario and returns what it wrote.
func inShim(tb testing.TB, work string, uid int, scenario string, args ...string) string {
	tb.Helper()
	cmd := shimCommand(tb.Context(), tb, work, uid, scenario, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("scenario %s as uid %d: %v\n%s", scenario, uid, err, out)
	}
	return string(out)
}
