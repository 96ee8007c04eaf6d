package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestUpgrade: what was paused or saved under one build goes on under another, and
// under the first one again.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	paused, running := w.counting(), w.counting()
	saved := w.count(paused)
	w.ok("snapshot", "create", "--name", "point", paused)
	w.ok("pause", paused)
	at := w.count(running)
	w.ok("daemon", "stop")

	w.bin = filepath.Join(binaries, "other", "sandbar")
	defer func() { w.bin = filepath.Join(binaries, "sandbar") }()
	w.ok("resume", paused)
	w.goesOn(paused, saved)
	w.goesOn(strings.Fields(w.ok("restore", "point"))[0], saved)
	// One that runs is still in the hands of a process of the first build.
	w.goesOn(running, at)
	at = w.count(running)
	w.ok("pause", running)
	w.ok("resume", running)
	w.goesOn(running, at)

	made := w.counting()
	at = w.count(made)
	w.ok("pause", made)
	w.ok("pause", paused)
	w.ok("daemon", "stop")
	w.bin = filepath.Join(binaries, "sandbar")
	w.ok("resume", made)
	w.goesOn(made, at)
	w.ok("resume", paused)
	w.goesOn(paused, saved)
}
