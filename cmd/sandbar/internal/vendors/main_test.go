package vendors_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/programs"
)

// binaries is the folder of the real binaries.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vd")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	packages := []string{"./cmd/sandbar", "./cmd/sandbar/sandbar-broker", "./cmd/sandbar-provider-fake"}
	for _, v := range all {
		packages = append(packages, "./cmd/sandbar-provider-"+v.name)
	}
	if err := programs.Build(dir, "0.0.0-vendors", packages...); err != nil {
		panic(err)
	}
	binaries = dir
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
