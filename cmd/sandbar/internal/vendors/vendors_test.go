package vendors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestRunAnywhere: a command ends the same way wherever it runs, and leaves nothing.
func TestRunAnywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, v := range all {
		res := r.run("run", "--provider", v.name, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
		if res.code != 7 || res.stdout != "out\n" || !strings.Contains(res.stderr, "err\n") {
			t.Errorf("%s: %+v", v.name, res)
		}
	}
	if left := r.list(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestFailover: when the best vendor wants no more requests, the next one gets them,
// and the explanation says why.
func TestFailover(t *testing.T) {
	t.Parallel()
	for i, first := range all {
		next := all[1-i]
		r := newRig(t, map[string]string{next.name: ", weight: 10"})
		if got := r.ok("create", "--name", "before", "--json"); !strings.Contains(got, first.name) {
			t.Fatalf("%s is not the first choice: %s", first.name, got)
		}
		r.fault(first.name, fmt.Sprintf(`{"path": %q, "method": "POST", "kind": "status", "status": 429, "retryAfter": 60, "times": 100}`, first.creation))
		// The first that is refused goes on to the next vendor; those after it are not even tried.
		for _, why := range []string{"RATE_LIMITED", "COOLING_DOWN"} {
			name := strings.ToLower(why[:4])
			r.ok("create", "--name", name)
			said := r.ok("explain", name, "--json")
			var placed struct {
				Provider string `json:"provider"`
			}
			if err := json.Unmarshal([]byte(said), &placed); err != nil {
				t.Fatal(err)
			}
			if placed.Provider != next.name || !strings.Contains(said, why) {
				t.Errorf("without %s it is explained: %s\nwant it on %s for %s", first.name, said, next.name, why)
			}
			if text := r.ok("explain", name); !strings.Contains(text, name+" was put on "+next.name) || !strings.Contains(text, first.name) {
				t.Errorf("explained: %s", text)
			}
		}
		if res := r.run("run", "--", "echo", "hi"); res.code != 0 || res.stdout != "hi\n" {
			t.Errorf("without %s: %+v", first.name, res)
		}
	}
}

// TestMove carries a workspace from one vendor to the other, and back.
func TestMove(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.ok("create", "--provider", all[0].name, "--name", "work")
	r.ok("exec", "work", "--", "sh", "-c", "mkdir -p /tmp/w/deep && seq 1 20000 > /tmp/w/deep/numbers && ln -s deep/numbers /tmp/w/link && echo run > /tmp/w/tool && chmod 751 /tmp/w/tool")
	before := r.ok("exec", "work", "--", "sh", "-c", "sha256sum < /tmp/w/link; stat -c %a /tmp/w/tool; readlink /tmp/w/link")
	for _, to := range []string{all[1].name, all[0].name} {
		r.ok("move", "work", "--provider", to, "--path", "/tmp/w")
		if after := r.ok("exec", "work", "--", "sh", "-c", "sha256sum < /tmp/w/link; stat -c %a /tmp/w/tool; readlink /tmp/w/link"); after != before {
			t.Errorf("at %s: %q, want %q", to, after, before)
		}
		r.eventually("one sandbox", func() (bool, string) {
			left := r.list()
			return len(left) == 1 && left[0].Provider == to && left[0].Name == "work", fmt.Sprintf("%+v", left)
		})
	}
}

// TestTroubleStaysWhereItIs: what happens to one vendor's plugin does not touch the
// sandboxes of another.
func TestTroubleStaysWhereItIs(t *testing.T) {
	for name, tc := range map[string]struct {
		strike func(r *rig, victim string)
		heal   func(r *rig, victim string)
	}{
		"it crashes": {strike: func(r *rig, victim string) { r.signal(victim, syscall.SIGKILL) }},
		"it hangs": {
			strike: func(r *rig, victim string) { r.signal(victim, syscall.SIGSTOP) },
			heal:   func(r *rig, victim string) { r.signal(victim, syscall.SIGCONT) },
		},
		"it floods": {strike: (*rig).flood},
	} {
		for i, v := range all {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				other := all[1-i]
				r := newRig(t, nil)
				r.ok("create", "--provider", v.name, "--name", v.name)
				r.ok("create", "--provider", other.name, "--name", other.name)
				const lines = 60
				stream := r.start("exec", other.name, "--", "sh", "-c", "i=0; while [ $i -lt "+strconv.Itoa(lines)+" ]; do echo $i; i=$((i+1)); sleep 0.05; done")
				if got := stream.line(); got != "0\n" {
					t.Fatalf("the first line is %q", got)
				}
				tc.strike(r, v.name)
				if got := r.ok("exec", other.name, "--", "echo", "fine"); got != "fine" {
					t.Errorf("a command elsewhere says %q", got)
				}
				for want := 1; want < lines; want++ {
					if got := stream.line(); got != strconv.Itoa(want)+"\n" {
						t.Fatalf("line %d of a command elsewhere is %q", want, got)
					}
				}
				r.ok("create", "--provider", other.name, "--name", "another")
				if tc.heal != nil {
					tc.heal(r, v.name)
				}
				r.eventually("the vendor to be back", func() (bool, string) {
					res := r.run("exec", v.name, "--", "echo", "back")
					return res.code == 0 && res.stdout == "back\n", fmt.Sprintf("%+v", res)
				})
			})
		}
	}
}

// flood starts commands that print without an end, of which nobody reads more than a
// pipe holds.
func (r *rig) flood(victim string) {
	r.t.Helper()
	for range 4 {
		cmd := r.command(context.Background(), "exec", victim, "--", "yes")
		if _, err := cmd.StdoutPipe(); err != nil {
			r.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() {
			_ = cmd.Process.Kill() // it waits for its reader
			_ = cmd.Wait()
		})
	}
}

// signal sends a signal to the plugin of a vendor's provider, which is a child of the
// broker.
func (r *rig) signal(name string, s syscall.Signal) {
	r.t.Helper()
	program := filepath.Join(binaries, "sandbar-provider-"+name)
	sent := 0
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, stat := range stats {
		dir := filepath.Dir(stat)
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || exe != program {
			continue
		}
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // from the state on
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(r.broker.cmd.Process.Pid) {
			continue
		}
		if err := syscall.Kill(pid, s); err != nil {
			r.t.Fatal(err)
		}
		sent++
	}
	if sent != 1 {
		r.t.Fatalf("%d plugins of %s run, want 1", sent, name)
	}
}
