package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/archive"
)

func pack(t *testing.T, headers ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		body := h.PAXRecords["SANDBAR.body"]
		h.PAXRecords = nil
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func file(name, body string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SANDBAR.body": body}}
}

func link(name, target string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

func hard(name, target string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

// TestNothingLeavesTheFolder unpacks archives made to write beside the folder.
func TestNothingLeavesTheFolder(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []*tar.Header
	}{
		{"dot dot", []*tar.Header{file("../victim", "owned")}},
		{"dot dot inside", []*tar.Header{file("a/../../victim", "owned")}},
		{"absolute", []*tar.Header{file("/victim", "owned")}},
		{"through a link", []*tar.Header{link("d", ".."), file("d/victim", "owned")}},
		{"through an absolute link", []*tar.Header{link("d", "OUTSIDE"), file("d/victim", "owned")}},
		{"through a chain of links", []*tar.Header{link("a", "b"), link("b", ".."), file("a/victim", "owned")}},
		{"link as folder", []*tar.Header{link("d", ".."), {Name: "d/", Typeflag: tar.TypeDir, Mode: 0o777}, file("d/victim", "owned")}},
		{"through a link that was there", []*tar.Header{file("planted/victim", "owned")}},
		{"hard link out", []*tar.Header{hard("h", "../victim"), file("h", "owned")}},
		{"hard link through a link", []*tar.Header{link("d", ".."), hard("h", "d/victim")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outside := t.TempDir()
			dir := filepath.Join(outside, "dst")
			victim := filepath.Join(outside, "victim")
			for _, err := range []error{os.Mkdir(dir, 0o755), os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink(outside, filepath.Join(dir, "planted"))} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, e := range tc.entries {
				if e.Linkname == "OUTSIDE" {
					e.Linkname = outside
				}
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			err = archive.Unpack(t.Context(), pack(t, tc.entries...), root, archive.Options{})
			var escape *archive.EscapeError
			if !errors.As(err, &escape) {
				t.Errorf("Unpack = %v, want an EscapeError", err)
			}
			if got, err := os.ReadFile(victim); err != nil || string(got) != "mine" {
				t.Errorf("the file outside is %q, %v", got, err)
			}
		})
	}
}

// TestLinkIsReplacedNotFollowed: a file entry with the name of a link takes the
// link's place.
func TestLinkIsReplacedNotFollowed(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := archive.Unpack(t.Context(), pack(t, link("f", victim), file("f", "new")), root, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "mine" {
		t.Errorf("the link was followed: %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "f")); string(got) != "new" {
		t.Errorf("f is %q", got)
	}
}

func TestRoundTrip(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	tree := map[string]string{"a.txt": "1", "sub/b c.txt": "2", "sub/ü\n.txt": "3", "empty": ""}
	for name, body := range tree {
		p := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("n", 200)
	for _, err := range []error{
		os.Symlink("a.txt", filepath.Join(src, "link")), os.WriteFile(filepath.Join(src, long), nil, 0o600),
		os.Chmod(filepath.Join(src, "a.txt"), 0o4755|fs.ModeSetuid), os.Mkdir(filepath.Join(src, "ro"), 0o500),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree[long] = ""
	var buf bytes.Buffer
	skipped := func(name string) { t.Errorf("skipped %q", name) }
	if err := archive.Pack(t.Context(), &buf, src, "x", skipped); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := archive.Unpack(t.Context(), &buf, root, archive.Options{Rename: "renamed", Skipped: skipped}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name := range tree {
		body, err := os.ReadFile(filepath.Join(dir, "renamed", name))
		if err != nil {
			t.Error(err)
		}
		got[name] = string(body)
	}
	if diff := cmp.Diff(tree, got); diff != "" {
		t.Error(diff)
	}
	if target, err := os.Readlink(filepath.Join(dir, "renamed", "link")); err != nil || target != "a.txt" {
		t.Errorf("link: %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "renamed", "a.txt")); err != nil || info.Mode() != 0o755 {
		t.Errorf("a.txt: %v, %v; want mode 0755 without set-uid", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "renamed", "ro")); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("ro: %v, %v", info.Mode(), err)
	}
}

func TestCutArchiveIsAnError(t *testing.T) {
	whole := pack(t, file("f", strings.Repeat("x", 5000))).Bytes()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := archive.Unpack(t.Context(), bytes.NewReader(whole[:2000]), root, archive.Options{}); err == nil {
		t.Error("a cut archive was taken for a whole one")
	}
}
