package erofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	gvisor "gvisor.dev/gvisor/pkg/erofs"

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
