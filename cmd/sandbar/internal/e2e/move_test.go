package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// moved is what move and create --from print.
type moved struct {
	Sandbox struct {
		sandbox
		Provider string `json:"provider"`
	} `json:"sandbox"`
	Files int64 `json:"files"`
	Left  []struct {
		What  string   `json:"what"`
		Names []string `json:"names"`
	} `json:"left"`
}

// left returns what stayed behind of a kind, and whether anything did.
func (m moved) left(what string) (names []string, is bool) {
	for _, l := range m.Left {
		if l.What == what {
			names, is = append(names, l.Names...), true
		}
	}
	return names, is
}

// bothWorld is a world with two providers. It skips where there can be no sandboxes.
func bothWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(w.env, "SANDBAR_CONFIG="+w.write("config.yaml", "providers: [{name: local, default: true}, {name: fake}]\n"))
	if res := w.run("doctor"); res.code != 0 {
		t.Skipf("there can be no sandboxes here: %s%s", res.stdout, res.stderr)
	}
	return w
}

// tree makes files of every kind that both providers have.
const tree = `mkdir -p /srv/work/sub "/srv/work/ü x"; cd /srv/work; head -c 3000000 /dev/urandom > data; ln data hard
ln -s ../data sub/link; ln -s /etc/passwd out; echo works > tool; chmod 4755 tool; chmod 700 sub; : > "ü x/empty"; echo elsewhere > /srv/other`

// seen is what a command inside sees of it.
const seen = `cd /srv/work; sha256sum < data; sha256sum < hard; sha256sum < sub/link; cat tool; readlink out; set -- $(ls -l tool); echo $1; set -- $(ls -ld sub); echo $1; ls; ls ü*`

// TestMoveThereAndBack carries files from gVisor to a provider in memory and back, by
// a move, by what has changed, and by a file.
func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	w := bothWorld(t)
	first := w.create("--provider", "local", "--name", "web", "-e", "TOKEN=s3cret", "-w", "/srv")
	w.sh("web", tree+"; mkfifo pipe")
	want := strings.Replace(w.sh("web", seen), "pipe\n", "", 1)

	var there moved
	w.json(&there, "move", "web", "--provider", "fake", "--path", "/srv/work", "--json")
	if names, _ := there.left("special"); !slices.Equal(names, []string{"/srv/work/pipe"}) || there.Files != 4 || there.Sandbox.Provider != "fake" {
		t.Errorf("moved there: %+v", there)
	}
	w.wants(1, "does not exist", "get", first)
	if got := w.sh("web", seen); got != want {
		t.Errorf("there it is\n%s\nwant\n%s", got, want)
	}
	if got := w.sh(there.Sandbox.ID, "pwd; echo $TOKEN; test -e /srv/other || echo without"); got != "/srv\ns3cret\nwithout" {
		t.Errorf("there is %q", got)
	}

	var back moved
	w.json(&back, "move", "web", "--provider", "local", "--path", "/srv/work", "--json")
	if got := w.sh("web", seen); got != want || back.Sandbox.ID == there.Sandbox.ID {
		t.Errorf("back it is\n%s\nwant\n%s", got, want)
	}
	// Memory is refused by both, and the sandbox goes on.
	w.wants(1, "memory cannot be carried", "move", back.Sandbox.ID, "--provider", "fake", "--path", "/srv/work", "--require", "memory")

	file := filepath.Join(w.dir, "s.tar")
	w.ok("snapshot", "export", back.Sandbox.ID, file, "--path", "/srv/work")
	w.ok("snapshot", "inspect", file)
	for _, provider := range []string{"fake", "local"} {
		var from moved
		w.json(&from, "create", "--from", file, "--provider", provider, "--json")
		if got := w.sh(from.Sandbox.ID, seen); got != want {
			t.Errorf("from the file on %s it is\n%s\nwant\n%s", provider, got, want)
		}
		if names, _ := from.left("environment"); !slices.Equal(names, []string{"TOKEN"}) {
			t.Errorf("from the file lacks %q", names)
		}
	}
	w.ok("rm", "--all")
	w.none()
}

// TestMoveWhatChanged carries what each provider says has changed.
func TestMoveWhatChanged(t *testing.T) {
	t.Parallel()
	w := bothWorld(t)
	sb := w.create("--provider", "local")
	w.sh(sb, "mkdir -p /opt/mine/d; echo one > /opt/mine/d/f; echo two > /tmp/two; rm /etc/hosts || true")
	const look = "cat /opt/mine/d/f /tmp/two"
	for _, provider := range []string{"fake", "local"} {
		var m moved
		w.json(&m, "move", sb, "--provider", provider, "--json")
		if sb = m.Sandbox.ID; w.sh(sb, look) != "one\ntwo" {
			t.Errorf("on %s: %q", provider, w.sh(sb, look))
		}
	}
	if all := w.list(); len(all) != 1 {
		t.Errorf("sandboxes are %+v", all)
	}
	w.ok("rm", "--all")
	w.none()
}

// TestKillDuringMove: whatever dies, the files are whole in one sandbox, and moving
// again leaves one.
func TestKillDuringMove(t *testing.T) {
	t.Parallel()
	for _, v := range victims[2:] {
		w := bothWorld(t)
		sb := w.create("--provider", "fake", "--name", "web")
		w.sh(sb, tree)
		want := w.sh(sb, seen)
		args := []string{"move", sb, "--provider", "local", "--path", "/srv/work"}
		cmd := w.start(args...)
		w.eventually("the new sandbox", func() (bool, string) { return len(w.list()) > 1 || w.run("get", sb).code != 0, "" })
		w.killNow(v.kind)
		res := cmd.end()
		if res.code != 0 && res.stderr == "" {
			t.Errorf("%s: failed without a word", v.name)
		}
		w.settled()
		if res.code != 0 {
			res = w.run(args...)
		}
		if res.code != 0 {
			t.Errorf("%s: again: %+v", v.name, res)
		}
		if all := w.list(); len(all) != 1 {
			t.Errorf("%s: sandboxes are %+v", v.name, all)
		}
		for _, sb := range []string{strings.TrimSpace(res.stdout), "web"} {
			if got := w.sh(sb, seen); got != want {
				t.Errorf("%s: %s is\n%s\nwant\n%s", v.name, sb, got, want)
			}
		}
		w.ok("rm", "--all")
	}
}
