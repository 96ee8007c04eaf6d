package vendors_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneCommand: a command can have a vendor of its own for as long as it runs.
func TestOneCommand(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "vd") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, dir: dir}
	sandbar := filepath.Join(binaries, "sandbar")
	for _, v := range all {
		with := []string{"simulator", v.name, "--guests", "fake", "--"}
		res := r.run(append(with, sandbar, "run", "--provider", v.name, "--", "sh", "-c", "echo out; cat; exit 3")...)
		if res.code != 3 || res.stdout != "out\n" {
			t.Errorf("%s: %+v", v.name, res)
		}
		if res := r.run(append(with, sandbar, "ls", "--json")...); res.code != 0 || strings.TrimSpace(res.stdout) != "[]" {
			t.Errorf("%s: the listing is %+v", v.name, res)
		}
		if res := r.run(append(with, "/nonexistent/program")...); res.code == 0 || !strings.Contains(res.stderr, "/nonexistent/program") {
			t.Errorf("%s: a program that does not exist: %+v", v.name, res)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
