package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// count returns what the counter of a sandbox says.
func (w *world) count(sb string) int {
	w.t.Helper()
	return w.number(w.ok("exec", sb, "--", "cat", "/tmp/n"))
}

// goesOn proves that a counter goes on from where it was.
func (w *world) goesOn(sb string, from int) {
	w.t.Helper()
	now := w.count(sb)
	if now < from {
		w.t.Errorf("%s counts %d, which was at %d before", sb, now, from)
	}
	w.eventually("the counter to go on", func() (bool, string) {
		next := w.count(sb)
		return next > now, fmt.Sprint(next)
	})
}

// staysPaused proves that a broker that just started comes to say PAUSED, and until
// its plugin is up nothing but that it does not know.
func (w *world) staysPaused(sb string) {
	w.t.Helper()
	w.eventually("a sandbox to be paused", func() (bool, string) {
		got := w.get(sb)
		if got.State != paused && got.State != unknown {
			w.t.Fatalf("a paused sandbox is %+v", got)
		}
		return got.State == paused, fmt.Sprintf("%+v", got)
	})
}

// TestCounterSurvivesEveryDeath: a paused process resumes where it was although
// its shim is gone and its plugin and broker were killed.
func TestCounterSurvivesEveryDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.counting()
	at := w.count(sb)
	w.ok("pause", sb)
	w.eventually("the end of the shim", func() (bool, string) {
		return len(w.kind(shim, sb)) == 0 && len(w.kind(sentry, sb)) == 0, ""
	})
	w.kill(plugin, "")
	w.kill(broker, "")
	w.staysPaused(sb)
	w.ok("resume", sb)
	w.goesOn(sb, at)

	// Alive, it does not even notice.
	w.kill(plugin, "")
	w.goesOn(sb, at)
	w.kill(broker, "")
	w.goesOn(sb, at)
	if n := len(w.column("ps", sb)); n == 0 {
		t.Error("the command is forgotten")
	}
}

// TestForkIntoEight: each copy counts on from where the original was, on its own.
func TestForkIntoEight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.counting()
	at := w.count(sb)
	var copies []sandbox
	w.json(&copies, "fork", "-n", "8", sb, "--json")
	w.look()
	if len(copies) != 8 {
		t.Fatalf("%d copies", len(copies))
	}
	var wg sync.WaitGroup
	for i, one := range copies {
		wg.Go(func() {
			w.goesOn(one.ID, at)
			w.sh(one.ID, fmt.Sprintf("test ! -e /tmp/mark && echo %d > /tmp/mark", i))
		})
	}
	wg.Wait()
	w.goesOn(sb, at)
	for i, one := range copies {
		if got := w.ok("exec", one.ID, "--", "cat", "/tmp/mark"); got != fmt.Sprint(i) {
			t.Errorf("copy %d is marked %q", i, got)
		}
	}
	if res := w.run("exec", sb, "--", "cat", "/tmp/mark"); res.code == 0 {
		t.Errorf("the original is marked: %+v", res)
	}
	w.ok("rm", copies[0].ID)
	w.goesOn(copies[1].ID, at)
}

// TestSnapshotAndRestore: a snapshot holds memory and outlives its sandbox.
func TestSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.counting()
	at := w.count(sb)
	snap := w.ok("snapshot", "create", "--name", "point", sb)
	w.goesOn(sb, at)
	w.ok("rm", sb)
	w.kill(broker, "")
	if ls := w.ok("snapshot", "ls"); !strings.Contains(ls, snap) {
		t.Errorf("snapshot ls: %q", ls)
	}
	for range 2 {
		w.goesOn(strings.Fields(w.ok("restore", "point"))[0], at)
	}
	w.ok("snapshot", "rm", "point")
	w.wants(1, "point", "restore", "point")
}
