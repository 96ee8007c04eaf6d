package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestForkBomb is stopped by the limit of processes; the sandbox survives it.
func TestForkBomb(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create("--pids", "64")
	res := w.run("exec", "--timeout", "10s", sb, "--", "bash", "-c", "bomb() { bomb | bomb & }; bomb 2>/dev/null; i=0; while [ $i -lt 2000 ]; do (:) || exit 9; i=$((i+1)); done; wait")
	if res.code == 0 {
		t.Errorf("2000 more processes were started beside a fork bomb: %+v", res)
	}
	w.eventually("the end of the bomb", func() (bool, string) {
		res := w.run("exec", "--timeout", "5s", sb, "--", "sh", "-c", "kill -9 -1; exit 0")
		alive := w.run("exec", sb, "--", "sh", "-c", "ls -d /proc/[0-9]* | wc -l")
		return alive.code == 0 && len(strings.TrimSpace(alive.stdout)) == 1, fmt.Sprint(res, alive)
	})
	if out := w.sh(sb, "echo fine"); out != "fine" {
		t.Errorf("after the bomb: %q", out)
	}
	if out := w.ok("run", "--", "echo", "fine"); out != "fine" {
		t.Errorf("another sandbox: %q", out)
	}
}

// TestFullDisk: a full disk is an error inside; the sandbox lives on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create("--disk", "32MiB")
	res := w.run("exec", sb, "--", "dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=200")
	if res.code == 0 || !strings.Contains(res.stderr, "No space left on device") {
		t.Errorf("200 MiB into 32 MiB: %+v", res)
	}
	if n := w.number(w.sh(sb, "stat -c %s /tmp/big")); n > 32<<20 {
		t.Errorf("the file has %d bytes", n)
	}
	w.sh(sb, "rm /tmp/big && echo again > /tmp/small && cat /tmp/small")
}

// TestMemoryLimit: who takes too much is killed, with words; the sandbox that
// keeps within its limit is not.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	res := w.run("run", "--memory", "128MiB", "--", "sh", "-c", "head -c 1000000000 /dev/zero | tail | wc -c")
	if res.code == 0 && strings.TrimSpace(res.stdout) == "1000000000" {
		t.Errorf("1 GB was held within 128 MiB: %+v", res)
	}
	if out := w.ok("run", "--memory", "128MiB", "--", "sh", "-c", "head -c 30000000 /dev/zero | tail | wc -c"); out != "30000000" {
		t.Errorf("30 MB within 128 MiB: %q", out)
	}
	w.none()
}

// TestManyExecs runs 200 commands one after the other and 32 at once, in one
// sandbox.
func TestManyExecs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	for i := range 200 {
		if res := w.run("exec", sb, "--", "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%100)); res != (result{i % 100, fmt.Sprintf("%d\n", i), ""}) {
			t.Fatalf("command %d: %+v", i, res)
		}
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			in := strings.Repeat(fmt.Sprintf("%d ", i), 1000)
			if res := w.feed(in, "exec", sb, "--", "sh", "-c", fmt.Sprintf("cat; exit %d", i)); res != (result{i, in, ""}) {
				t.Errorf("command %d of 32 at once: code %d, %d bytes, %q", i, res.code, len(res.stdout), res.stderr)
			}
		})
	}
	wg.Wait()
	if out := w.sh(sb, "ls -d /proc/[0-9]* | wc -l"); w.number(out) > 4 {
		t.Errorf("%s processes are left inside", out)
	}
}

// TestTimeout ends a command, and says why; the sandbox stays.
func TestTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	w.wants(128+9, "timeout", "exec", "--timeout", "300ms", sb, "--", "sleep", "60")
	if out := w.sh(sb, "echo fine"); out != "fine" {
		t.Errorf("after a timeout: %q", out)
	}
	w.ok("rm", sb)
	w.wants(128+9, "timeout", "run", "--timeout", "300ms", "--", "sleep", "60")
	w.none()
}

// TestLifetimeAndIdle: what has lived long enough is gone, what idles is paused
// or gone, without anybody asking.
func TestLifetimeAndIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Lifetimes and idle times are long enough for a loaded machine to get that far.
	w.create("--name", "short", "--lifetime", "20s")
	w.create("--name", "longer", "--lifetime", "30m")
	w.ok("extend", "longer", "1h")
	w.create("--name", "bored", "--idle", "1s")
	w.create("--name", "sleepy", "--idle", "1s", "--idle-action", "pause")
	w.create("--name", "busy", "--idle", "30s")
	busy, release := w.startHeld("exec", "busy", "--", "sh", "-c", "echo ready; cat")
	busy.line()
	w.eventually("expiry and idle policy", func() (bool, string) {
		states := map[string]string{}
		for _, sb := range w.list() {
			states[sb.Name] = sb.State
		}
		want := map[string]string{"sleepy": paused, "busy": running, "longer": running}
		return fmt.Sprint(states) == fmt.Sprint(want), fmt.Sprint(states)
	})
	w.wants(1, "want a time after the present end of life", "extend", "longer", "10m")
	w.ok("rm", "longer")
	release()
	if res := busy.end(); res.code != 0 {
		t.Errorf("a command in a sandbox with an idle policy: %+v", res)
	}
	w.eventually("the end of who is busy no more", func() (bool, string) {
		all := w.list()
		return len(all) == 1, fmt.Sprint(all)
	})
	w.ok("resume", "sleepy")
	if out := w.sh("sleepy", "echo awake"); out != "awake" {
		t.Errorf("after an idle pause: %q", out)
	}
}
