package union_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
)

// memory is a sink that keeps content by the block it pretends to be at.
type memory struct {
	next    uint32
	content map[uint32]string
}

func (m *memory) WriteFile(r io.Reader, size int64) (erofs.Extent, error) {
	if size == 0 {
		return erofs.Extent{}, nil
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return erofs.Extent{}, err
	}
	m.next++
	m.content[m.next] = string(b)
	return erofs.Extent{Block: m.next, Size: size}, nil
}

func (m *memory) Discard(e erofs.Extent) error {
	if _, ok := m.content[e.Block]; !ok {
		return fmt.Errorf("extent %d was discarded twice", e.Block)
	}
	delete(m.content, e.Block)
	return nil
}

func newMemory() *memory { return &memory{content: map[uint32]string{}} }

// archive makes a layer.
func archive(tb testing.TB, headers ...tar.Header) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		// Linkname doubles as the content of a regular file in these tests.
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
		}
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatalf("%q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content}
}
func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func sym(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

type layers [][]tar.Header

// flatten applies layers and describes the result by path. It checks that the
// sink holds exactly what the tree names.
func flatten(tb testing.TB, all layers) (map[string]string, error) {
	tb.Helper()
	sink := newMemory()
	tree := union.New(sink, union.Limits{})
	for _, l := range all {
		if err := tree.Apply(tb.Context(), bytes.NewReader(archive(tb, l...))); err != nil {
			return nil, err
		}
	}
	got := map[string]string{}
	live := map[uint32]bool{}
	describe(tree.Root(), "", sink, got, live)
	if have := slices.Sorted(maps.Keys(sink.content)); !slices.Equal(have, slices.Sorted(maps.Keys(live))) {
		tb.Errorf("the sink keeps %v, the tree names %v", have, live)
	}
	return got, nil
}

func describe(i *erofs.Inode, path string, sink *memory, out map[string]string, live map[uint32]bool) {
	switch i.Mode & erofs.TypeMask {
	case erofs.TypeDir:
		out[path+"/"] = ""
		for _, e := range i.Entries {
			describe(e.Inode, path+"/"+e.Name, sink, out, live)
		}
	case erofs.TypeSymlink:
		out[path] = "-> " + i.Target
	case erofs.TypeRegular:
		out[path] = sink.content[i.Data.Block]
		if i.Data.Size > 0 {
			live[i.Data.Block] = true
		}
	default:
		out[path] = fmt.Sprintf("mode %o device %#x", i.Mode, i.Device)
	}
}

func TestRulesOfLayers(t *testing.T) {
	tests := []struct {
		name string
		in   layers
		want map[string]string
	}{
		{"upper file replaces", layers{{reg("a", "1")}, {reg("a", "2")}}, map[string]string{"/": "", "/a": "2"}},
		{"last of several entries wins", layers{{reg("a", "1"), sym("a", "x"), reg("a", "2")}}, map[string]string{"/": "", "/a": "2"}},
		{"directories merge", layers{{dir("d"), reg("d/a", "1")}, {dir("d"), reg("d/b", "2")}}, map[string]string{"/": "", "/d/": "", "/d/a": "1", "/d/b": "2"}},
		{"file replaces directory", layers{{dir("d"), reg("d/a", "1")}, {reg("d", "2")}}, map[string]string{"/": "", "/d": "2"}},
		{"directory replaces file", layers{{reg("d", "1")}, {dir("d")}}, map[string]string{"/": "", "/d/": ""}},
		{"directory replaces symlink", layers{{dir("e"), sym("d", "e")}, {dir("d"), reg("d/a", "1")}}, map[string]string{"/": "", "/e/": "", "/d/": "", "/d/a": "1"}},
		{"missing parents are made", layers{{reg("a/b/c", "1")}}, map[string]string{"/": "", "/a/": "", "/a/b/": "", "/a/b/c": "1"}},
		{"a file as parent gives way", layers{{reg("a", "1")}, {reg("a/b", "2")}}, map[string]string{"/": "", "/a/": "", "/a/b": "2"}},
		{"whiteout of a file", layers{{reg("a", "1"), reg("b", "2")}, {reg(".wh.a", "")}}, map[string]string{"/": "", "/b": "2"}},
		{"whiteout of a directory", layers{{reg("d/a", "1")}, {reg(".wh.d", "")}}, map[string]string{"/": ""}},
		{"whiteout of nothing", layers{{reg("a", "1")}, {reg(".wh.b", ""), reg("no/.wh.b", "")}}, map[string]string{"/": "", "/a": "1"}},
		{"whiteout before its own layer's file", layers{{reg("a", "1")}, {reg(".wh.a", ""), reg("a", "2")}}, map[string]string{"/": "", "/a": "2"}},
		{"whiteout after its own layer's file", layers{{reg("a", "1")}, {reg("a", "2"), reg(".wh.a", "")}}, map[string]string{"/": "", "/a": "2"}},
		{"whiteout and new directory", layers{{reg("d/old", "1")}, {dir("d"), reg("d/new", "2"), reg(".wh.d", "")}}, map[string]string{"/": "", "/d/": "", "/d/new": "2"}},
		{"whiteout through a symlink", layers{{reg("real/a", "1"), reg("real/b", "2"), sym("l", "real")}, {reg("l/.wh.a", "")}}, map[string]string{"/": "", "/real/": "", "/real/b": "2", "/l": "-> real"}},
		{"whiteout of a symlink, not its target", layers{{reg("real/a", "1"), sym("l", "real")}, {reg(".wh.l", "")}}, map[string]string{"/": "", "/real/": "", "/real/a": "1"}},
		{"opaque directory", layers{{reg("d/a", "1"), reg("d/s/b", "2")}, {dir("d"), reg("d/.wh..wh..opq", ""), reg("d/c", "3")}}, map[string]string{"/": "", "/d/": "", "/d/c": "3"}},
		{"opaque marker after new files", layers{{reg("d/a", "1"), reg("d/s/b", "2")}, {reg("d/s/c", "3"), reg("d/.wh..wh..opq", "")}}, map[string]string{"/": "", "/d/": "", "/d/s/": "", "/d/s/c": "3"}},
		{"opaque root", layers{{reg("a", "1")}, {reg(".wh..wh..opq", ""), reg("b", "2")}}, map[string]string{"/": "", "/b": "2"}},
		{"names of AUFS are no files", layers{{reg(".wh..wh.plnk", "1"), reg(".wh..wh.aufs", "2")}}, map[string]string{"/": ""}},
		{"hard link across layers", layers{{reg("a", "1")}, {hard("d/b", "a")}, {reg(".wh.a", "")}}, map[string]string{"/": "", "/d/": "", "/d/b": "1"}},
		{"hard link keeps what a replaced name had", layers{{reg("a", "1"), hard("b", "a")}, {reg("a", "2")}}, map[string]string{"/": "", "/a": "2", "/b": "1"}},
		{"hard link to itself", layers{{reg("a", "1"), hard("a", "./a")}}, map[string]string{"/": "", "/a": "1"}},
		{"hard link to a symlink", layers{{sym("a", "x"), hard("b", "a")}}, map[string]string{"/": "", "/a": "-> x", "/b": "-> x"}},
		{"hard link in place of its target's parent", layers{{reg("a/b", "1")}, {hard("a", "a/b")}}, map[string]string{"/": "", "/a": "1"}},
		{"symlinked parent", layers{{dir("usr/lib"), sym("lib", "usr/lib")}, {reg("lib/x", "1")}}, map[string]string{"/": "", "/usr/": "", "/usr/lib/": "", "/usr/lib/x": "1", "/lib": "-> usr/lib"}},
		{"absolute symlinked parent", layers{{dir("run"), dir("var"), sym("var/run", "/run")}, {reg("var/run/x", "1")}}, map[string]string{"/": "", "/run/": "", "/run/x": "1", "/var/": "", "/var/run": "-> /run"}},
		{"symlink that climbs stays in the image", layers{{sym("d/up", "../../../../etc")}, {reg("d/up/x", "1")}}, map[string]string{"/": "", "/d/": "", "/d/up": "-> ../../../../etc", "/etc/": "", "/etc/x": "1"}},
		{"dangling symlinked parent", layers{{sym("l", "no/where")}, {reg("l/x", "1")}}, map[string]string{"/": "", "/l": "-> no/where", "/no/": "", "/no/where/": "", "/no/where/x": "1"}},
		{"unclean names", layers{{reg("./a", "1"), reg("/b", "2"), reg("x//../c", "3")}}, map[string]string{"/": "", "/a": "1", "/b": "2", "/c": "3"}},
		{"odd names", layers{{reg("line\nbreak", "1"), reg("☃/é", "2"), reg(strings.Repeat("n", 255), "3"), reg("two words", "4")}}, map[string]string{"/": "", "/line\nbreak": "1", "/☃/": "", "/☃/é": "2", "/" + strings.Repeat("n", 255): "3", "/two words": "4"}},
		{"devices", layers{{
			{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
			{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8, Devminor: 300},
			{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		}}, map[string]string{"/": "", "/null": "mode 20666 device 0x103", "/disk": "mode 60660 device 0x10082c", "/pipe": "mode 10600 device 0x0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := flatten(t, tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMetadataIsKept(t *testing.T) {
	at := time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)
	sink := newMemory()
	tree := union.New(sink, union.Limits{})
	layer := archive(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5, Gid: 6},
		tar.Header{
			Name: "f", Typeflag: tar.TypeReg, Mode: 0o4751, Uid: 3_000_000_000, Gid: 7, ModTime: at, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.a": "y"},
		})
	if err := tree.Apply(t.Context(), bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	root := tree.Root()
	if root.Mode != erofs.TypeDir|0o1777 || root.UID != 5 || root.GID != 6 {
		t.Errorf("root is %+v", root)
	}
	f := root.Entries[0].Inode
	if f.Mode != erofs.TypeRegular|0o4751 || f.UID != 3_000_000_000 || f.GID != 7 ||
		f.Seconds != at.Unix() || f.Nanoseconds != 123456789 {
		t.Errorf("file is %+v", f)
	}
	if tree.DroppedXattrs() != 2 {
		t.Errorf("%d attributes dropped, want 2", tree.DroppedXattrs())
	}
}

func TestImagesAtFaultAreRefused(t *testing.T) {
	deep := strings.Repeat("a/", 1500)
	tests := []struct {
		name string
		in   layers
		want string
	}{
		{"name climbs out", layers{{reg("../x", "1")}}, "climbs out"},
		{"absolute name climbs out", layers{{reg("/a/../../x", "1")}}, "climbs out"},
		{"hard link climbs out", layers{{hard("a", "../../etc/shadow")}}, "climbs out"},
		{"hard link to nothing", layers{{hard("a", "b")}}, "must name a file"},
		{"hard link to a directory", layers{{dir("d"), hard("a", "d")}}, "must name a file"},
		{"hard link ahead of its target", layers{{hard("a", "b"), reg("b", "1")}}, "must name a file"},
		{"root is a file", layers{{reg(".", "1")}}, "root"},
		{"whiteout of dot", layers{{reg("d/.wh..", "")}}, "names no file"},
		{"whiteout of dot dot", layers{{reg("d/.wh...", "")}}, "names no file"},
		{"whiteout of no name", layers{{reg("d/.wh.", "")}}, "names no file"},
		{"symlinks in a circle", layers{{sym("a", "b"), sym("b", "a"), reg("a/x", "1")}}, "symbolic links"},
		{"long component", layers{{reg(strings.Repeat("x", 256), "1")}}, "256 bytes"},
		{"long name", layers{{reg(strings.Repeat("x/", 2100)+"y", "1")}}, "Linux allows 4095"},
		{"deep", layers{{reg(deep+"y", "1"), sym("s", deep)}, {reg("s/"+deep+"y", "1")}}, "nested"},
		{"long target", layers{{sym("a", strings.Repeat("x", 4096))}}, "4096 bytes"},
		{"unknown type", layers{{{Name: "a", Typeflag: 'Z'}}}, "entry type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := flatten(t, tt.in)
			var invalid *union.Invalid
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want *Invalid with %q", err, tt.want)
			}
		})
	}
}

func TestDamagedArchivesAreInvalid(t *testing.T) {
	whole := archive(t, reg("a", strings.Repeat("x", 5000)))
	for name, b := range map[string][]byte{
		"ends in a file":   whole[:2000],
		"ends in a header": whole[:100],
		"is no archive":    bytes.Repeat([]byte("no tar "), 500),
	} {
		var invalid *union.Invalid
		err := union.New(newMemory(), union.Limits{}).Apply(t.Context(), bytes.NewReader(b))
		if !errors.As(err, &invalid) {
			t.Errorf("archive that %s: %v, want *Invalid", name, err)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	layer := archive(t, reg("a", "12345"), reg("b", "12345"), dir("c"))
	tests := []struct {
		limits union.Limits
		want   string
	}{
		{union.Limits{Bytes: 9}, "bytes"},
		{union.Limits{Entries: 2}, "entries"},
	}
	for _, tt := range tests {
		var large *union.TooLarge
		err := union.New(newMemory(), tt.limits).Apply(t.Context(), bytes.NewReader(layer))
		if !errors.As(err, &large) || large.Limit != tt.want {
			t.Errorf("%+v: %v, want *TooLarge of %s", tt.limits, err, tt.want)
		}
	}
	if err := union.New(newMemory(), union.Limits{Bytes: 10, Entries: 3}).Apply(t.Context(), bytes.NewReader(layer)); err != nil {
		t.Errorf("limits that just suffice: %v", err)
	}
}

func TestCancellationEndsAHugeFile(t *testing.T) {
	// A sparse file needs no bytes of the layer: only the context can end it.
	ctx, cancel := context.WithCancel(t.Context())
	sink := sinkFunc(func(r io.Reader, size int64) (erofs.Extent, error) {
		b := make([]byte, 1<<10)
		if _, err := io.ReadFull(r, b); err != nil {
			return erofs.Extent{}, err
		}
		cancel()
		_, err := io.CopyN(io.Discard, r, size-int64(len(b)))
		return erofs.Extent{}, err
	})
	err := union.New(sink, union.Limits{}).Apply(ctx, bytes.NewReader(sparseArchive(64<<30)))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

type sinkFunc func(io.Reader, int64) (erofs.Extent, error)

func (f sinkFunc) WriteFile(r io.Reader, size int64) (erofs.Extent, error) { return f(r, size) }
func (f sinkFunc) Discard(erofs.Extent) error                              { return nil }

// sparseArchive is an archive, in GNU's format, of one file that is a hole but
// for its last byte. archive/tar reads such files and does not write them.
func sparseArchive(size int64) []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", 1)) // bytes in the archive
	copy(h[136:], fmt.Sprintf("%011o\x00", 0))
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	number := func(b []byte, n int64) { // GNU's binary numbers
		for i := range 12 {
			b[11-i] = byte(n >> (8 * min(i, 7)))
			if i > 7 {
				b[11-i] = 0
			}
		}
		b[0] |= 0x80
	}
	number(h[386:398], size-1) // offset of the only piece
	number(h[398:410], 1)      // its length
	number(h[483:495], size)
	sum := 8 * int(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	data := make([]byte, 512)
	data[0] = 'x'
	return append(append(h, data...), make([]byte, 1024)...)
}

func TestSparseFilesAreWhole(t *testing.T) {
	var got []byte
	sink := sinkFunc(func(r io.Reader, size int64) (_ erofs.Extent, err error) {
		got, err = io.ReadAll(r)
		return erofs.Extent{}, err
	})
	if err := union.New(sink, union.Limits{}).Apply(t.Context(), bytes.NewReader(sparseArchive(100_000))); err != nil {
		t.Fatal(err)
	}
	want := append(make([]byte, 99_999), 'x')
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes ending in %q", len(got), got[max(0, len(got)-3):])
	}
}
