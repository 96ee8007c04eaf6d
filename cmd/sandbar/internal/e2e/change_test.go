package e2e_test

import (
	"os"
	"testing"
	"time"
)

// change is a command that changes sandboxes.
type change struct {
	prepare func(w *world, sb string)
	args    func(sb string) []string
	// usable is how many sandboxes can be used afterwards, if none had to die.
	usable int
	// makes: the command makes a sandbox, which is a victim too.
	makes bool
	// proves looks at the rest of the outcome of a command that succeeded, itself
	// or when it was repeated.
	proves func(w *world, sb string)
}

// during kills a victim at some moments of a change, and proves the truth
// afterwards.
func during(t *testing.T, c change) {
	t.Helper()
	delays := []time.Duration{0, 80 * time.Millisecond}
	if os.Geteuid() != 0 {
		delays = []time.Duration{40 * time.Millisecond} // another moment, for the second run
	}
	for _, v := range victims {
		for _, delay := range delays {
			c.with(t, v, func(w *world, _ string) {
				timer := time.NewTimer(delay)
				<-timer.C
				w.killNow(v.kind)
			}, delay.String())
		}
		if v.fatal && c.makes {
			c.with(t, v, func(w *world, sb string) { w.killOther(v.kind, sb) }, "its start")
		}
	}
}

// with makes the change once while strike kills the victim.
func (c change) with(t *testing.T, v victim, strike func(w *world, sb string), when string) {
	t.Helper()
	w := newWorld(t)
	sb := w.counting()
	before := w.number(w.sh(sb, "cat /tmp/n"))
	if c.prepare != nil {
		c.prepare(w, sb)
	}
	cmd := w.start(c.args(sb)...)
	strike(w, sb)
	res := cmd.end()
	w.settled()
	if res.code != 0 && res.stderr == "" {
		t.Errorf("%s after %s: failed without a word", v.name, when)
	}
	if !v.fatal && res.code != 0 {
		again := w.run(c.args(sb)...)
		if again.code != 0 {
			t.Errorf("%s after %s: %+v; again: %+v", v.name, when, res, again)
		}
		res = again
	}
	usable := w.truth()
	if !v.fatal && len(usable) < c.usable {
		t.Errorf("%s after %s: %d are usable, want %d: %+v", v.name, when, len(usable), c.usable, w.list())
	}
	for _, one := range usable {
		if now := w.number(w.sh(one.ID, "cat /tmp/n")); now < before {
			t.Errorf("%s after %s: the counter of %s went back from %d to %d", v.name, when, one.ID, before, now)
		}
	}
	if res.code == 0 && c.proves != nil {
		c.proves(w, sb)
	}
	w.retry()
}

// killOther kills a process of a sandbox that is not sb, as soon as there is one.
func (w *world) killOther(k kind, sb string) {
	w.t.Helper()
	w.eventually("another sandbox", func() (bool, string) {
		for _, f := range w.kind(k, "") {
			if !f.of(sb) {
				w.killed(f)
				return true, ""
			}
		}
		return false, describe(w.processes())
	})
}

// counting makes a sandbox in which a process counts in /tmp/n.
func (w *world) counting() string {
	w.t.Helper()
	sb := w.guest()
	w.ok("exec", "--detach", sb, "--", "/guest", "count", "/tmp/n")
	w.eventually("a first count", func() (bool, string) {
		res := w.run("exec", sb, "--", "cat", "/tmp/n")
		return res.code == 0, res.stderr
	})
	return sb
}

func TestKillDuringPause(t *testing.T) {
	t.Parallel()
	during(t, change{usable: 1, args: func(sb string) []string { return []string{"pause", sb} }})
}

func TestKillDuringResume(t *testing.T) {
	t.Parallel()
	during(t, change{
		usable:  1,
		prepare: func(w *world, sb string) { w.ok("pause", sb) },
		args:    func(sb string) []string { return []string{"resume", sb} },
	})
}

func TestKillDuringFork(t *testing.T) {
	t.Parallel()
	during(t, change{usable: 3, makes: true, args: func(sb string) []string { return []string{"fork", "-n", "2", sb} }})
}

func TestKillDuringSnapshot(t *testing.T) {
	t.Parallel()
	during(t, change{
		usable: 1,
		args:   func(sb string) []string { return []string{"snapshot", "create", "--name", "point", sb} },
		proves: func(w *world, _ string) {
			w.t.Helper()
			if points := w.column("snapshot", "ls"); len(points) != 1 {
				w.t.Errorf("snapshots are %q, want one", points)
			}
			w.ok("restore", "--name", "copy", "point")
			w.sh("copy", "cat /tmp/n")
		},
	})
}

func TestKillDuringRestore(t *testing.T) {
	t.Parallel()
	during(t, change{
		usable: 2, makes: true,
		prepare: func(w *world, sb string) { w.ok("snapshot", "create", "--name", "point", sb) },
		args:    func(string) []string { return []string{"restore", "--name", "copy", "point"} },
		proves: func(w *world, _ string) {
			w.t.Helper()
			w.get("copy")
		},
	})
}

func TestKillDuringDelete(t *testing.T) {
	t.Parallel()
	during(t, change{
		args: func(sb string) []string { return []string{"rm", sb} },
		proves: func(w *world, _ string) {
			w.t.Helper()
			w.none()
		},
	})
}
