// Package programs builds programs that tests run as processes.
//
// It is for TestMain of packages beside it.
package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds packages of the module, such as ./cmd/sandbar, into a folder. Their
// version is the one given. The flags are those of `make build`, so that its cache
// serves.
func Build(dir, version string, packages ...string) error {
	return build(append([]string{"-ldflags", "-s -w -X main.version=" + version, "-o", dir + "/"}, packages...)...)
}

// BuildGuestAgent builds the agent of the provider local into a folder. It has no
// version.
func BuildGuestAgent(dir string) error {
	return build("-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/sandbar-provider-local/sandbar-guest-agent")
}

func build(flags ...string) error {
	args := append([]string{"build", "-trimpath"}, flags...)
	cmd := exec.CommandContext(context.Background(), "go", args...) // TestMain has no context
	cmd.Dir = "../../../.."                                         // from the folder of the test
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %q: %w\n%s", args, err, text)
	}
	return nil
}
