package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlainHome uses Sandbar as whoever has just logged in does: with a home and
// nothing else in the environment that would say where things are kept.
func TestPlainHome(t *testing.T) {
	home := os.Getenv("HOME")
	if os.Getenv(accountFlag) == "" || os.Geteuid() == 0 {
		var err error
		if home, err = os.MkdirTemp("", "h"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(home); err != nil {
				t.Error(err)
			}
		})
	}
	const secret = "only for the owner of the home"
	file := filepath.Join(home, "secret")
	if err := os.WriteFile(file, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	})
	had := entries(t, home)
	t.Cleanup(func() {
		if diff := cmp.Diff(had, entries(t, home)); diff != "" {
			t.Errorf("the home (-before +after):\n%s", diff)
		}
	})
	local := filepath.Join(home, ".local")
	if err := os.Mkdir(local, 0o700); err != nil {
		t.Fatalf("a home that is in use cannot be used up: %v", err)
	}
	w := worldIn(t, local)
	w.state = filepath.Join(local, "state")
	w.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}

	if res := w.run("run", "--", "sh", "-c", "dmesg | grep -c gVisor; cat "+file); res.code != 1 || res.stdout != "1\n" {
		t.Errorf("run: %+v", res)
	}
	sb := w.counting()
	before := w.number(w.sh(sb, "cat /tmp/n"))
	w.ok("pause", sb)
	w.ok("resume", sb)
	w.ok("fork", "-n", "2", sb)
	for _, one := range w.list() {
		if now := w.number(w.sh(one.ID, "cat /tmp/n")); now < before {
			t.Errorf("the counter of %s went back from %d to %d", one.ID, before, now)
		}
	}
	w.ok("rm", "--all")
	w.none()
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.Name()
	}
	return names
}
