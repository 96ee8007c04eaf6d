package shim

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAliveChangesNothing: calls ask without the sandbox's lock, also while
// another one removes its folder, which a file made meanwhile would keep.
func TestAliveChangesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{dir, filepath.Join(dir, "absent")} {
		if alive, err := Alive(folder); alive || err != nil {
			t.Errorf("Alive(%q) = %t, %v: want no shim where there is no lock", folder, alive, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("asking left %v, %v: want nothing", left, err)
	}
}

func TestAliveSeesTheLock(t *testing.T) {
	dir := t.TempDir()
	want := func(want bool, when string) {
		t.Helper()
		if alive, err := Alive(dir); alive != want || err != nil {
			t.Errorf("%s: %t, %v: want %t", when, alive, err, want)
		}
	}
	lock, held, err := Lock(dir)
	if err != nil || held {
		t.Fatal(held, err)
	}
	want(true, "while a lock is held")
	if _, held, err := Lock(dir); !held || err != nil {
		t.Errorf("a second lock: held %t, %v: want it held", held, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	want(false, "with a lock that nobody holds")
}
