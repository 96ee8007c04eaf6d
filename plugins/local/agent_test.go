package local

import (
	"os"
	"path/filepath"
	"testing"
)

// TestInstallAgent: the state folder gets the program once for each content, and what
// has a link to the one before keeps that.
func TestInstallAgent(t *testing.T) {
	program, state := filepath.Join(t.TempDir(), "agent"), t.TempDir()
	install := func(content string) (string, os.FileInfo) {
		t.Helper()
		if err := os.WriteFile(program, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		path, err := installAgent(program, state)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, serr := os.Stat(path)
		if err != nil || serr != nil || string(got) != content || info.Mode() != 0o755 {
			t.Fatalf("installed %q, %v, %v, %v: want %q for anybody to execute", got, info, err, serr, content)
		}
		return path, info
	}
	path, first := install("first")
	if _, again := install("first"); !os.SameFile(first, again) {
		t.Error("the same program was installed again")
	}
	kept := filepath.Join(state, "kept")
	if err := os.Link(path, kept); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("of an attempt that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	install("second")
	if got, err := os.ReadFile(kept); err != nil || string(got) != "first" {
		t.Errorf("a link to the first has %q, %v", got, err)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 2 {
		t.Errorf("the state folder has %v, %v", entries, err)
	}
}

func TestInstallAgentThatIsMissing(t *testing.T) {
	if path, err := installAgent("", t.TempDir()); path != "" || err != nil {
		t.Errorf("of no program there is %q, %v", path, err)
	}
	if path, err := installAgent(filepath.Join(t.TempDir(), "none"), t.TempDir()); err == nil {
		t.Errorf("of a program that does not exist there is %q", path)
	}
}
