package exactlyonce_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgtest"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/programs"
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
	own := "./cmd/sandbar/internal/exactlyonce/testdata/"
	if err := programs.Build(dir, "e2e", "./cmd/sandbar", "./cmd/sandbar/sandbar-broker", "./cmd/sandbar-provider-fake", own+"broker", own+"vendor"); err != nil {
		panic(err)
	}
	if err := os.Link(filepath.Join(dir, "vendor"), filepath.Join(dir, "sandbar-provider-remote")); err != nil {
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
