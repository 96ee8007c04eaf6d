package cli_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/apitest"
)

func listen(tb testing.TB, socket string) net.Listener {
	tb.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// TestScripts runs the real command against an in-memory broker, one for each
// script. A script whose name begins with daemon has none and starts its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":    status,
			"sandboxes": sandboxes,
			"uploaded":  uploaded,
		},
	})
}

// noExitSleep takes away the second that the race detector waits at each exit.
const noExitSleep = "atexit_sleep_ms=0"

type brokerKey struct{}

func setup(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("no testing.TB in %T", env.T())
	}
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	run, err := os.MkdirTemp("", "sb")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(run) })
	env.Setenv("XDG_RUNTIME_DIR", run)
	env.Setenv("GORACE", noExitSleep)
	plugin, err := exec.LookPath("sandbar-provider-fake")
	if err != nil {
		return err
	}
	env.Setenv("PLUGIN", plugin)
	if strings.HasPrefix(filepath.Base(env.WorkDir), "script-daemon") {
		return nil
	}
	b, address := broker(t, func(b *apitest.Broker) { b.SetArchive(goodArchive(t)) })
	env.Values[brokerKey{}] = b
	env.Setenv("SANDBAR_SERVER", address)
	return nil
}

// status CODE COMMAND...: the command ends with exactly this code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		if _, err := fmt.Sscanf(err.Error(), "exit status %d", &got); err != nil {
			ts.Fatalf("%v", err)
		}
	}
	ts.Logf("%s", ts.ReadFile("stdout"))
	ts.Logf("%s", ts.ReadFile("stderr"))
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// sandboxes N: the broker has exactly so many.
func sandboxes(ts *testscript.TestScript, neg bool, args []string) {
	b, ok := ts.Value(brokerKey{}).(*apitest.Broker)
	if !ok || neg || len(args) != 1 {
		ts.Fatalf("usage: sandboxes N, in a script with a broker")
	}
	if got := strconv.Itoa(b.Sandboxes()); got != args[0] {
		ts.Fatalf("%s sandboxes, want %s", got, args[0])
	}
}

// uploaded PATH NAME: the last archive went to PATH and holds NAME.
func uploaded(ts *testscript.TestScript, neg bool, args []string) {
	b, ok := ts.Value(brokerKey{}).(*apitest.Broker)
	if !ok || neg || len(args) != 2 {
		ts.Fatalf("usage: uploaded PATH NAME, in a script with a broker")
	}
	ups := b.Uploads()
	if len(ups) == 0 {
		ts.Fatalf("nothing was uploaded")
	}
	last := ups[len(ups)-1]
	names, err := namesIn(last.Data)
	ts.Check(err)
	if last.Path != args[0] || !slices.Contains(names, args[1]) {
		ts.Fatalf("uploaded %q to %s, want %s in %s", names, last.Path, args[1], args[0])
	}
}
