package erofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	gvisor "gvisor.dev/gvisor/pkg/erofs"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
)

// object is what a reader can see of an inode.
type object struct {
	Mode     uint16
	UID, GID uint32
	Seconds  uint64
	Nanos    uint32
	Links    uint32
	Size     uint64
	Sum      string // of a regular file
	Target   string
	Nid      uint64
}

// readBack reads an image with gVisor's reader: everything below the root, by
// path. It also looks every name up, which searches instead of iterating.
func readBack(tb testing.TB, path string) map[string]object {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	img, err := gvisor.OpenImage(f)
	if err != nil {
		tb.Fatal(err)
	}
	defer img.Close()
	all := map[string]object{}
	var visit func(path string, nid, parent uint64)
	visit = func(path string, nid, parent uint64) {
		i, err := img.Inode(nid)
		if err != nil {
			tb.Fatalf("%q: %v", path, err)
		}
		o := object{
			Mode: i.Mode(), UID: i.UID(), GID: i.GID(), Seconds: i.Mtime(), Nanos: i.MtimeNsec(),
			Links: i.Nlink(), Size: i.Size(), Nid: nid,
		}
		switch {
		case i.IsRegular():
			o.Sum = contentSum(tb, &i)
		case i.IsSymlink():
			if o.Target, err = i.Readlink(); err != nil {
				tb.Fatal(err)
			}
		case i.IsDir():
			o.Size = 0
			last, dots := "", 0
			err := i.IterDirents(func(name string, _ uint8, child uint64) error {
				if name <= last {
					tb.Errorf("%q: %q comes after %q", path, name, last)
				}
				last = name
				if found, err := i.Lookup(name); err != nil || found != child {
					tb.Errorf("%q: lookup of %q is %d, %v; want %d", path, name, found, err, child)
				}
				switch name {
				case ".", "..":
					dots++
					if want := map[string]uint64{".": nid, "..": parent}[name]; child != want {
						tb.Errorf("%q: %q is %d, want %d", path, name, child, want)
					}
				default:
					visit(path+"/"+name, child, nid)
				}
				return nil
			})
			if err != nil || dots != 2 {
				tb.Errorf("%q: %d dot entries, %v", path, dots, err)
			}
		}
		all[path] = o
	}
	visit("", img.RootNid(), img.RootNid())
	return all
}

func contentSum(tb testing.TB, i *gvisor.Inode) string {
	tb.Helper()
	if _, err := i.DataOffset(); err != nil {
		tb.Fatalf("file cannot be mapped: %v", err)
	}
	data, err := i.Data()
	if err != nil {
		tb.Fatal(err)
	}
	h := sha256.New()
	for ; !data.IsEmpty(); data = data.Tail() {
		h.Write(data.Head().ToSlice())
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sumOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func create(tb testing.TB, name string) *os.File {
	tb.Helper()
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

func put(tb testing.TB, w *erofs.Writer, content []byte) erofs.Extent {
	tb.Helper()
	e, err := w.WriteFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// sample writes an image with every kind of object and returns what a reader
// must see, numbers left out.
func sample(tb testing.TB, f *os.File) map[string]object {
	tb.Helper()
	w := erofs.NewWriter(f, erofs.BlockSize)
	big := noise(1, 3*erofs.BlockSize+17)
	sparse := make([]byte, 2<<20+5)
	copy(sparse[1<<20:], "island")
	dropped := put(tb, w, noise(2, 100_000))
	bigAt, sparseAt := put(tb, w, big), put(tb, w, sparse)
	if err := w.Discard(dropped); err != nil {
		tb.Fatal(err)
	}
	exact := noise(3, erofs.BlockSize)
	linked := &erofs.Inode{Mode: erofs.TypeRegular | 0o4755, UID: 70000, GID: 80000, Seconds: 1700000000, Nanoseconds: 123456789, Data: bigAt}
	want := map[string]object{}
	note := func(path string, mode uint16, links uint32, o object) {
		o.Mode, o.Links = mode, links
		want[path] = o
	}
	dir := func(entries ...erofs.Entry) *erofs.Inode {
		return &erofs.Inode{Mode: erofs.TypeDir | 0o755, Entries: entries}
	}
	var many []erofs.Entry
	for n := range 1000 {
		name := fmt.Sprintf("file %d %s", n, strings.Repeat("x", n%90))
		many = append(many, erofs.Entry{Name: name, Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o600}})
		note("/many/"+name, 0o100600, 1, object{Sum: sumOf(nil)})
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(many), func(a, b int) { many[a], many[b] = many[b], many[a] })
	long := strings.Repeat("t", erofs.MaxTarget)
	root := dir(
		erofs.Entry{Name: "empty", Inode: dir()},
		erofs.Entry{Name: "many", Inode: dir(many...)},
		erofs.Entry{Name: "set-uid", Inode: linked},
		erofs.Entry{Name: "line\nbreak ☃", Inode: linked},
		erofs.Entry{Name: "!", Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o644, Data: sparseAt}},
		erofs.Entry{Name: strings.Repeat("n", erofs.MaxName), Inode: &erofs.Inode{Mode: erofs.TypeRegular | 0o644, Data: put(tb, w, exact)}},
		erofs.Entry{Name: "short", Inode: &erofs.Inode{Mode: erofs.TypeSymlink | 0o777, Target: "../a/b"}},
		erofs.Entry{Name: "long", Inode: &erofs.Inode{Mode: erofs.TypeSymlink | 0o777, Target: long}},
		erofs.Entry{Name: "fifo", Inode: &erofs.Inode{Mode: erofs.TypeFIFO | 0o600}},
		erofs.Entry{Name: "null", Inode: &erofs.Inode{Mode: erofs.TypeCharDev | 0o666, Device: erofs.Device(1, 3)}},
		erofs.Entry{Name: "disk", Inode: &erofs.Inode{Mode: erofs.TypeBlockDev | 0o660, Device: erofs.Device(259, 70000)}},
	)
	note("", 0o040755, 4, object{})
	note("/empty", 0o040755, 2, object{})
	note("/many", 0o040755, 2, object{})
	o := object{UID: 70000, GID: 80000, Seconds: 1700000000, Nanos: 123456789, Size: uint64(len(big)), Sum: sumOf(big)}
	note("/set-uid", 0o104755, 2, o)
	note("/line\nbreak ☃", 0o104755, 2, o)
	note("/!", 0o100644, 1, object{Size: uint64(len(sparse)), Sum: sumOf(sparse)})
	note("/"+strings.Repeat("n", erofs.MaxName), 0o100644, 1, object{Size: erofs.BlockSize, Sum: sumOf(exact)})
	note("/short", 0o120777, 1, object{Size: 6, Target: "../a/b"})
	note("/long", 0o120777, 1, object{Size: erofs.MaxTarget, Target: long})
	note("/fifo", 0o010600, 1, object{})
	note("/null", 0o020666, 1, object{})
	note("/disk", 0o060660, 1, object{})
	stats, err := w.Finish(root)
	if err != nil {
		tb.Fatal(err)
	}
	if want := int64(len(want) - 1); stats.Inodes != want { // one object has two names
		tb.Errorf("%d inodes, want %d", stats.Inodes, want)
	}
	if info, err := f.Stat(); err != nil || info.Size() != stats.Size || stats.Size%erofs.BlockSize != 0 {
		tb.Errorf("file of %d bytes, stats say %d: %v", info.Size(), stats.Size, err)
	}
	return want
}

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
