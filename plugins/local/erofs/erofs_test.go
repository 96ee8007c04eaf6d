package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
)

func TestReaderOfGvisorSeesWhatWasWritten(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "image"))
	want := sample(t, f)
	got := readBack(t, f.Name())
	if got["/set-uid"].Nid != got["/line\nbreak ☃"].Nid {
		t.Error("hard links have different inodes")
	}
	for path, o := range got {
		if o.Nid == 0 {
			t.Errorf("%q has inode number 0", path)
		}
		o.Nid = 0
		got[path] = o
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
}

// A directory that gVisor's reader could not read is refused with small blocks
// and works with large ones.
func TestCrowdedDirectoryNeedsLargeBlocks(t *testing.T) {
	tree := func() *erofs.Inode {
		root := &erofs.Inode{Mode: erofs.TypeDir | 0o755}
		for n := range 150 {
			root.Entries = append(root.Entries, erofs.Entry{
				Name:  fmt.Sprintf("%0200d", n),
				Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o644},
			})
		}
		return root
	}
	f := create(t, filepath.Join(t.TempDir(), "small"))
	var crowded *erofs.Crowded
	if _, err := erofs.NewWriter(f, erofs.BlockSize).Finish(tree()); !errors.As(err, &crowded) {
		t.Fatalf("error %v, want *Crowded", err)
	}
	f = create(t, filepath.Join(t.TempDir(), "large"))
	w := erofs.NewWriter(f, erofs.LargeBlockSize)
	first, second := put(t, w, noise(4, 100)), put(t, w, noise(5, erofs.LargeBlockSize+1))
	root := tree()
	root.Entries[0].Inode.Data, root.Entries[1].Inode.Data = first, second
	if _, err := w.Finish(root); err != nil {
		t.Fatal(err)
	}
	got := readBack(t, f.Name())
	if len(got) != 151 {
		t.Errorf("%d objects, want 151", len(got))
	}
	if got[fmt.Sprintf("/%0200d", 0)].Sum != sumOf(noise(4, 100)) ||
		got[fmt.Sprintf("/%0200d", 1)].Sum != sumOf(noise(5, erofs.LargeBlockSize+1)) {
		t.Error("content differs")
	}
}

func TestSameCallsGiveSameBytes(t *testing.T) {
	var images [2][]byte
	for n := range images {
		f := create(t, filepath.Join(t.TempDir(), "image"))
		sample(t, f)
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		images[n] = b
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images of the same tree differ")
	}
}

func TestDiscardedDataIsGone(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "image"))
	w := erofs.NewWriter(f, erofs.BlockSize)
	secret := noise(9, 8<<20)
	e := put(t, w, secret)
	keep := put(t, w, []byte("kept"))
	if err := w.Discard(e); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(&erofs.Inode{Mode: erofs.TypeDir | 0o755, Entries: []erofs.Entry{
		{Name: "kept", Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o644, Data: keep}},
	}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, secret[:64]) || bytes.Contains(b, secret[len(secret)-64:]) {
		t.Error("discarded data is still in the image")
	}
	if got := readBack(t, f.Name())["/kept"].Sum; got != sumOf([]byte("kept")) {
		t.Errorf("the file beside it has sum %s", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(f.Name(), &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 1<<20 {
		t.Errorf("image takes %d bytes of disk after 8 MiB were discarded", used)
	}
}

func TestFsckAcceptsTheImage(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("fsck.erofs is not installed (Debian package erofs-utils)")
	}
	f := create(t, filepath.Join(t.TempDir(), "image"))
	sample(t, f)
	if out, err := exec.Command(fsck, "-d5", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	dump, err := exec.LookPath("dump.erofs")
	if err != nil {
		t.Skip("dump.erofs is not installed (Debian package erofs-utils)")
	}
	out, err := exec.Command(dump, "--path=/set-uid", f.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("dump.erofs: %v\n%s", err, out)
	}
	for _, want := range []string{"Uid: 70000", "Gid: 80000", "Links: 2", "Access: 0755", "Size: 12305"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("dump.erofs does not say %q:\n%s", want, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	file := &erofs.Inode{Mode: erofs.TypeRegular | 0o644}
	shared := &erofs.Inode{Mode: erofs.TypeDir | 0o755}
	tests := []struct {
		name    string
		entries []erofs.Entry
		want    string
	}{
		{"slash", []erofs.Entry{{Name: "a/b", Inode: file}}, "slash"},
		{"empty name", []erofs.Entry{{Name: "", Inode: file}}, "1 to 255"},
		{"long name", []erofs.Entry{{Name: strings.Repeat("x", 256), Inode: file}}, "1 to 255"},
		{"zero", []erofs.Entry{{Name: "a\x00", Inode: file}}, "zero"},
		{"dot", []erofs.Entry{{Name: ".", Inode: file}}, "twice"},
		{"twice", []erofs.Entry{{Name: "a", Inode: file}, {Name: "a", Inode: file}}, "twice"},
		{"directory with two names", []erofs.Entry{{Name: "a", Inode: shared}, {Name: "b", Inode: shared}}, "two names"},
		{"no type", []erofs.Entry{{Name: "a", Inode: &erofs.Inode{Mode: 0o644}}}, "file type"},
		{"no target", []erofs.Entry{{Name: "a", Inode: &erofs.Inode{Mode: erofs.TypeSymlink}}}, "target"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := erofs.NewWriter(create(t, filepath.Join(t.TempDir(), "image")), erofs.BlockSize)
			_, err := w.Finish(&erofs.Inode{Mode: erofs.TypeDir | 0o755, Entries: tt.entries})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	w := erofs.NewWriter(create(t, filepath.Join(t.TempDir(), "image")), erofs.BlockSize)
	if _, err := w.WriteFile(strings.NewReader("short"), 6); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short content: %v", err)
	}
}

// Any directory, whatever its names, is found again by iterating and by searching.
func TestDirectoriesOfAnyNames(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[!-.0-~é]{1,60}`).Filter(func(s string) bool {
			return s != "." && s != ".." && len(s) <= erofs.MaxName
		}), 0, 300, rapid.ID[string]).Draw(rt, "names")
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		root := &erofs.Inode{Mode: erofs.TypeDir | 0o755}
		for n, name := range names {
			root.Entries = append(root.Entries, erofs.Entry{Name: name, Inode: &erofs.Inode{
				Mode: erofs.TypeSymlink | 0o777, Target: strings.Repeat("/", n+1),
			}})
		}
		if _, err := erofs.NewWriter(f, erofs.BlockSize).Finish(root); err != nil {
			rt.Fatal(err)
		}
		got := readBack(t, f.Name())
		if len(got) != len(names)+1 {
			rt.Fatalf("%d objects, want %d", len(got), len(names)+1)
		}
		for n, name := range names {
			if o := got["/"+name]; len(o.Target) != n+1 {
				rt.Fatalf("%q leads to %d bytes, want %d", name, len(o.Target), n+1)
			}
		}
	})
}

func BenchmarkWriteFile(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			content := noise(1, size)
			f := create(b, filepath.Join(b.TempDir(), "image"))
			b.SetBytes(int64(size))
			w := erofs.NewWriter(f, erofs.BlockSize)
			written := 0
			for b.Loop() {
				if written += size; written > 1<<30 { // stay within the page cache
					if err := f.Truncate(0); err != nil {
						b.Fatal(err)
					}
					w, written = erofs.NewWriter(f, erofs.BlockSize), size
				}
				put(b, w, content)
			}
		})
	}
}
