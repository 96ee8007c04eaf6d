package runsc

import (
	"os"
	"testing"
)

// TestReaderEmpty: what waits, and the end, are not emptiness.
func TestReaderEmpty(t *testing.T) {
	r, keep, err := newReader(t.TempDir(), "s", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w, err := os.OpenFile(r.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := keep.Close(); err != nil {
		t.Fatal(err)
	}
	if !r.Empty() {
		t.Error("a pipe without a byte is not empty")
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if r.Empty() {
		t.Error("a pipe with a byte is empty")
	}
	if n, err := r.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("read %d %v", n, err)
	}
	if !r.Empty() {
		t.Error("a pipe that was read is not empty")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Empty() {
		t.Error("a pipe at its end is empty: the end would not be read")
	}
}
