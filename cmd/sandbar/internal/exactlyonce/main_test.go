package exactlyonce_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
)

var full = flag.Bool("exactly.full", false, "run every cell of the matrix, also those that take minutes")

// binaries is the folder of the real binaries, and of the broker that stands
// still.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	// The cases wait more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "xo")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := build(dir); err != nil {
		panic(err)
	}
	binaries = dir
	code := pgtest.Main{M: m}.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// build makes the binaries with the flags of `make build`, so that its cache
// serves.
func build(dir string) error {
	const what = "./cmd/sandbar ./cmd/sandbar-provider-fake ./cmd/sandbar/internal/exactlyonce/testdata/broker ./cmd/sandbar/internal/exactlyonce/testdata/vendor"
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w -X main.version=e2e", "-o", dir + "/"}, strings.Fields(what)...)
	cmd := exec.Command("go", args...)
	cmd.Dir = "../../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %q: %w\n%s", args, err, text)
	}
	return nil
}
