package local_test

import (
	"flag"
	"log/slog"
	"testing"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/plugins/local"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

var suiteRounds = flag.Int("suite-rounds", 0, "how often to run the conformance suite, each time with another seed")

// TestConformance runs the suite against the driver in this process, which is how
// the race detector sees it: the plugin's binary cannot have one, because it is
// also the agent in the guest, and that is built without cgo. The binary is tested
// by make conformance, and there cases about images have one.
func TestConformance(t *testing.T) {
	if *suiteRounds == 0 {
		t.Skip("takes minutes, and make conformance tests the binary: go test -race ./plugins/local -run TestConformance -args -suite-rounds 1")
	}
	log := slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	target := conformance.InProcess(func() (sdk.Driver, error) {
		return local.New(local.Options{Version: "0.0.0-test", Binary: binary, Log: log}), nil
	})
	for range *suiteRounds {
		conformance.Test(t, target, conformance.Options{Parallel: 8})
	}
}
