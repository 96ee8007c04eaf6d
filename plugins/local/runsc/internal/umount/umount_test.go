package umount

import (
	"os"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"gVisor's", []string{self, "umount", "--sync-fd=3", "/proc"}, true},
		{"another program", []string{"umount", "umount", "--sync-fd=3", "/proc"}, false},
		{"another command", []string{self, "shim", "--sync-fd=3", "/proc"}, false},
		{"another option", []string{self, "umount", "--lazy", "/proc"}, false},
		{"no number", []string{self, "umount", "--sync-fd=x", "/proc"}, false},
		{"a negative number", []string{self, "umount", "--sync-fd=-1", "/proc"}, false},
		{"a relative folder", []string{self, "umount", "--sync-fd=3", "proc"}, false},
		{"one argument more", []string{self, "umount", "--sync-fd=3", "/proc", "/sys"}, false},
		{"none", []string{self}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, dir, ok := parse(c.args)
			if ok != c.ok || ok && (fd != 3 || dir != "/proc") {
				t.Errorf("parse: %d %q %t", fd, dir, ok)
			}
		})
	}
}

// TestServe never unmounts: the byte does not come, or the folder is none.
func TestServe(t *testing.T) {
	for _, c := range []struct{ name, input string }{{"the other end is gone", ""}, {"the folder is no mount", "x"}} {
		t.Run(c.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if _, err := w.WriteString(c.input); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if code := serve(int(r.Fd()), t.TempDir()); code == 0 {
				t.Error("serve reports success")
			}
		})
	}
}
