package e2e_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plant puts a sentinel wherever this user can write on the machine, in the
// content and in the name of a file, and returns it.
func plant(t *testing.T, w *world) string {
	t.Helper()
	sentinel := "sentinel" + strings.ToLower(rand.Text())
	places := []string{w.home, w.tmp, w.state, w.runtime, "/tmp", "/var/tmp", "/dev/shm"}
	if os.Geteuid() == 0 {
		home, err := os.MkdirTemp("/home", "e2e")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(home) })
		places = append(places, home, "/root", "/run", "/var/lib", "/opt", "/srv", "/mnt")
	}
	for _, dir := range places {
		file := filepath.Join(dir, sentinel)
		if err := os.WriteFile(file, []byte(sentinel), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(file) })
	}
	for _, name := range []string{".ssh/id_ed25519", ".aws/credentials", ".netrc"} {
		file := filepath.Join(w.home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(sentinel), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return sentinel
}

// TestNoSecretInside plants a sentinel all over the host and looks for it inside,
// as root of the sandbox: by name, by content, in every process.
func TestNoSecretInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sentinel := plant(t, w)
	// Both the command and the broker that it starts have it in the environment;
	// the API key is one that the command itself reads.
	w.env = append(w.env, "AWS_SECRET_ACCESS_KEY="+sentinel, "SANDBAR_API_KEY="+sentinel, "GITHUB_TOKEN="+sentinel, "SSH_AUTH_SOCK=/tmp/"+sentinel)
	folder := filepath.Dir(w.write("project/file", "public"))
	sb := w.create("--mount", folder+":/work")
	// /usr is the machine's own, as every user sees it, and has more files than all
	// else together: its first level is enough to see that nothing was put there.
	search := `
		cd /
		echo "== contents"
		find / -path /proc -prune -o -path /sys -prune -o -path "/usr/*/*" -prune -o \
			\( -name "*${S}*" -fprint /tmp/names , -type f -print0 \) | xargs -0 -r grep -l -s -F "$S"
		echo "== names"; cat /tmp/names
		echo "== processes"; for p in /proc/[0-9]*; do
			for f in environ cmdline mountinfo mounts maps; do tr '\0' '\n' < $p/$f | grep -v "^S=" | grep -F "$S" && echo "in $p/$f"; done
			ls -l $p/fd $p/cwd $p/root 2>/dev/null | grep -F "$S"
		done
		echo "== env"; env | grep -v "^S=" | grep -F "$S"
		grep -rlsF "$S" /sys
		echo "== done"`
	// The sentinel reaches the search in two halves, so that it finds others only.
	half := len(sentinel) / 2
	script := `S="$A$B"; ` + search
	res := w.run("exec", "-e", "A="+sentinel[:half], "-e", "B="+sentinel[half:], "--timeout", "4m", sb, "--", "sh", "-c", script)
	want := "== contents\n== names\n== processes\n== env\n== done\n"
	if res.stdout != want {
		t.Errorf("found inside: %q; code %d, stderr %q", res.stdout, res.code, tailOf([]byte(res.stderr), 500))
	}
	// The search does find what there is.
	w.ok("exec", "-e", "A="+sentinel[:half], "-e", "B="+sentinel[half:], sb, "--", "sh", "-c", `echo "$A$B" > /tmp/proof`)
	if out := w.ok("exec", "-e", "A="+sentinel[:half], "-e", "B="+sentinel[half:], sb, "--", "sh", "-c", `grep -rlF "$A$B" /tmp /work`); out != "/tmp/proof" {
		t.Errorf("the control search found %q", out)
	}
	for _, dir := range []string{"/root", "/home", "/run", "/var/tmp", "/var/lib", "/srv", "/mnt"} {
		if out := w.sh(sb, "find "+dir+" -type f"); out != "" {
			t.Errorf("%s has files inside: %q", dir, out)
		}
	}
	// The broker did not keep what it has no use for.
	for _, p := range w.processes() {
		environ, err := os.ReadFile("/proc/" + itoa(p.pid) + "/environ")
		if err == nil && strings.Contains(string(environ), sentinel) {
			t.Errorf("process %d has it in its environment: %.100s", p.pid, p.line)
		}
	}
	if out := w.ok("exec", "-e", "GITHUB_TOKEN", sb, "--", "sh", "-c", `echo "$GITHUB_TOKEN"`); out != sentinel {
		t.Errorf("a variable that was passed on by name is %q", out)
	}
	// What is not mounted cannot be reached over the network either: there is none.
	if res := w.run("exec", sb, "--", "sh", "-c", "cat /proc/net/dev | grep -v 'lo:\\|Inter\\|face'"); strings.TrimSpace(res.stdout) != "" {
		t.Errorf("interfaces inside: %q", res.stdout)
	}
	for _, name := range []string{w.home, w.state, w.runtime, w.tmp} {
		_ = os.Remove(filepath.Join(name, sentinel))
	}
}
