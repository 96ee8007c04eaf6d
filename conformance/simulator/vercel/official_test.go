package vercel_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/npm"
	"github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
)

// official is the version of the vendor's own client that is tried.
const official = "@vercel/sandbox@3.5.0"

// TestOfficialClient runs the vendor's own client, unmodified, against the
// simulator.
func TestOfficialClient(t *testing.T) {
	c := start(t)
	const want = "ok create, through a rate limit\nok run\nok detached, logs, kill, wait\nok files\nok extend, policy\nok stop, resume\nok snapshot, restore\nok list, refusals, delete\n"
	if out := npm.Run(t, official, "SIMULATOR="+c.url, "TOKEN="+vercel.DefaultToken, "TEAM="+vercel.DefaultTeam, "PROJECT="+vercel.DefaultProject); out != want {
		t.Errorf("it says (want all lines beginning with ok):\n%s", out)
	}
}
