package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

type victim struct {
	name string
	kind kind
	// fatal: the sandbox cannot outlive it.
	fatal bool
}

var victims = []victim{
	{"sandbox", sentry, true},
	{"shim", shim, true},
	{"plugin", plugin, false},
	{"broker", broker, false},
}

// truth proves that ls tells the truth: what it calls running runs, what it calls
// paused resumes and runs, and there is no shim of a sandbox that it does not
// know. It returns what is usable.
func (w *world) truth() []sandbox {
	w.t.Helper()
	var usable []sandbox
	for _, sb := range w.settled() {
		switch sb.State {
		case paused:
			w.ok("resume", sb.ID)
			fallthrough
		case running:
			res := w.run("exec", sb.ID, "--", "echo", "alive")
			if res == (result{0, "alive\n", ""}) {
				usable = append(usable, sb)
				continue
			}
			// It may be dying; ls must come to know.
			w.eventually(fmt.Sprintf("ls to say that %+v is not usable (%+v)", sb, res), func() (bool, string) {
				now := w.get(sb.ID)
				return now.State != running && now.State != paused, fmt.Sprint(now)
			})
		default:
			if res := w.run("exec", sb.ID, "--", "echo", "alive"); res.code == 0 {
				w.t.Errorf("%+v works", sb)
			}
			if sb.Why == "" {
				w.t.Errorf("%+v does not say why", sb)
			}
		}
	}
	known := w.list()
	w.eventually("the end of unknown shims", func() (bool, string) {
		for _, s := range w.kind(shim, "") {
			var is bool
			for _, sb := range known {
				is = is || strings.Contains(s.line, sb.ID)
			}
			if !is {
				return false, s.line
			}
		}
		return true, ""
	})
	return usable
}

// settled waits until nothing is under way any more, nor unknown, and returns what
// there is then.
func (w *world) settled() (all []sandbox) {
	w.t.Helper()
	w.eventually("the end of all changes", func() (bool, string) {
		all = w.list()
		for _, sb := range all {
			switch sb.State {
			case "SANDBOX_STATE_CREATING", "SANDBOX_STATE_PAUSING", "SANDBOX_STATE_RESUMING", "SANDBOX_STATE_DELETING", unknown:
				return false, fmt.Sprint(all)
			}
		}
		return true, ""
	})
	return all
}

// retry proves that after everything a new sandbox can be made, used, and
// removed with the rest.
func (w *world) retry() {
	w.t.Helper()
	if out := w.ok("run", "--", "echo", "again"); out != "again" {
		w.t.Errorf("the retry printed %q", out)
	}
	for _, sb := range w.list() {
		w.ok("rm", sb.ID)
	}
	w.none()
}

// TestKillDuringCreate kills each process as soon as it exists.
func TestKillDuringCreate(t *testing.T) {
	t.Parallel()
	for _, v := range victims {
		w := newWorld(t)
		w.ok("ls")
		create := w.start("create", "--name", "child")
		if !v.fatal {
			w.eventually("a shim", func() (bool, string) { return len(w.kind(shim, "")) > 0, "" })
		}
		w.kill(v.kind, "")
		res := create.end()
		usable := w.truth()
		if res.code == 0 && !v.fatal && len(usable) != 1 {
			t.Errorf("%s: create succeeded and usable is %+v", v.name, usable)
		}
		if res.code != 0 && res.stderr == "" {
			t.Errorf("%s: create failed without a word", v.name)
		}
		if !v.fatal && res.code != 0 {
			t.Errorf("%s: create: %+v", v.name, res)
		}
		w.retry()
	}
}

// TestKillDuringRun: whatever dies, `run` ends with its sandbox removed.
func TestKillDuringRun(t *testing.T) {
	t.Parallel()
	for _, v := range victims {
		w := newWorld(t)
		run, release := w.startHeld("run", "--", "sh", "-c", "echo ready; cat; echo over; exit 6")
		run.line()
		w.kill(v.kind, "")
		release()
		res := run.end()
		if v.fatal && (res.code != 125 || res.stderr == "") || !v.fatal && (res.code != 6 || res.stdout != "over\n") {
			t.Errorf("%s: %+v", v.name, res)
		}
		w.none()
		w.retry()
	}
}

const manyLines = 600

func linesFrom(from int) string {
	var b strings.Builder
	for i := from; i < manyLines; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// guest makes a sandbox in which /guest is our own program.
func (w *world) guest(args ...string) string {
	w.t.Helper()
	return w.create(append([]string{"--mount", binaries + "/guest:/guest:ro"}, args...)...)
}

// TestKillDuringExec: an attached command either goes on with every byte once, or
// ends with words and never with success.
func TestKillDuringExec(t *testing.T) {
	t.Parallel()
	for _, v := range victims {
		w := newWorld(t)
		sb := w.guest()
		exec, release := w.startHeld("exec", sb, "--", "/guest", "lines", fmt.Sprint(manyLines))
		logs := w.followed(sb)
		for exec.line() != "line 99" {
		}
		w.kill(v.kind, "")
		release()
		res, log := exec.end(), logs.end()
		if v.fatal {
			if res.code != 125 || res.stderr == "" || !strings.HasPrefix(linesFrom(100), res.stdout) {
				t.Errorf("%s: exec ended with code %d, %d bytes, stderr %q", v.name, res.code, len(res.stdout), res.stderr)
			}
			if log.stderr == "" {
				t.Errorf("%s: logs -f ended with code %d and said nothing", v.name, log.code)
			}
			// Without anybody touching the sandbox, ls comes to know.
			w.eventually("ls to know of the end", func() (bool, string) {
				all := w.list()
				return len(all) == 1 && all[0].State == "SANDBOX_STATE_FAILED", fmt.Sprint(all)
			})
		} else {
			if res != (result{5, linesFrom(100), ""}) {
				t.Errorf("%s: exec ended with code %d, %d bytes of %d, stderr %q", v.name, res.code, len(res.stdout), len(linesFrom(100)), res.stderr)
			}
			if log != (result{0, linesFrom(0), ""}) {
				t.Errorf("%s: logs -f ended with code %d, %d bytes of %d, stderr %q", v.name, log.code, len(log.stdout), len(linesFrom(0)), log.stderr)
			}
			if all := w.truth(); len(all) != 1 {
				t.Errorf("%s: usable is %+v", v.name, all)
			}
		}
		w.truth()
		w.retry()
	}
}

// followed starts logs -f of the one command of a sandbox.
func (w *world) followed(sb string) *started {
	w.t.Helper()
	w.eventually("a command", func() (bool, string) { return len(w.column("ps", sb)) > 0, "" })
	return w.start("logs", "-f", sb)
}

// TestKillDuringInput cuts a command off while it is fed: it must have read every
// byte once.
func TestKillDuringInput(t *testing.T) {
	t.Parallel()
	for _, v := range victims[2:] {
		w := newWorld(t)
		sb := w.create()
		in := newSlowInput(4<<20, 64)
		cmd := w.command("exec", sb, "--", "sha256sum")
		cmd.Stdin = in
		var out strings.Builder
		var errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-in.half
		w.kill(v.kind, "")
		close(in.goOn)
		if err := cmd.Wait(); err != nil || !strings.HasPrefix(out.String(), in.digest()) {
			t.Errorf("%s: %v, %q, stderr %q; want %s", v.name, err, out.String(), errs.String(), in.digest())
		}
		w.retry()
	}
}
