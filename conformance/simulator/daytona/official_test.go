package daytona_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/npm"
)

// official is the version of the vendor's own client that is tried.
const official = "@daytona/sdk@0.216.0"

// TestOfficialClient runs the vendor's own client, unmodified, against the
// simulator.
func TestOfficialClient(t *testing.T) {
	c := start(t, daytona.Options{})
	const want = "ok create, get\nok execute\nok sessions, logs\nok files\nok stop, start\nok refusals\nok delete\n"
	if out := npm.Run(t, official, "SIMULATOR="+c.url, "KEY="+daytona.DefaultKey); out != want {
		t.Errorf("it says (want all lines beginning with ok):\n%s", out)
	}
}
