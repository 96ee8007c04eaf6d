package portable_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// tbContext is for walks that nobody ends.
var tbContext = context.Background()

// refusedAs says whether a snapshot was refused for what it is.
func refusedAs(err error) bool {
	return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) || fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED)
}

// blobs returns the blobs of a snapshot in a folder by what they are.
func blobs(t *testing.T, name string) (manifest, config, layer string) {
	t.Helper()
	var index, m struct {
		Manifests []struct{ Digest string }
		Config    struct{ Digest string }
		Layers    []struct{ Digest string }
	}
	at := func(digest string) string {
		return filepath.Join(name, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	unmarshal(t, filepath.Join(name, "index.json"), &index)
	manifest = at(index.Manifests[0].Digest)
	unmarshal(t, manifest, &m)
	return manifest, at(m.Config.Digest), at(m.Layers[0].Digest)
}

func unmarshal(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// edit changes a file; it must be there.
func edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, change(raw), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaced puts other bytes in place of a blob, and lets all that refer to it refer
// to the new one: a forger's work, not damage.
func replaced(t *testing.T, name string, blob string, change func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	forged := change(bytes.Clone(raw))
	old, new := filepath.Base(blob), sha(forged)
	if err := errors.Join(os.Remove(blob), os.WriteFile(filepath.Join(filepath.Dir(blob), new), forged, 0o600)); err != nil {
		t.Fatal(err)
	}
	follow := func(from []byte) []byte {
		var v any
		if err := json.Unmarshal(from, &v); err != nil {
			t.Fatal(err)
		}
		refer(v, "sha256:"+old, "sha256:"+new, len(forged))
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if manifest := manifestOf(t, name); manifest != "" {
		replaced(t, name, manifest, follow)
		return
	}
	edit(t, filepath.Join(name, "index.json"), follow)
}

// manifestOf returns "" for a manifest that the index does not lead to any more.
func manifestOf(t *testing.T, name string) string {
	t.Helper()
	var index struct{ Manifests []struct{ Digest string } }
	unmarshal(t, filepath.Join(name, "index.json"), &index)
	m := filepath.Join(name, "blobs/sha256", strings.TrimPrefix(index.Manifests[0].Digest, "sha256:"))
	if _, err := os.Stat(m); err != nil {
		return ""
	}
	return m
}

// refer changes the digest, and the size beside it, in JSON.
func refer(v any, old, new string, size int) {
	switch v := v.(type) {
	case map[string]any:
		if v["digest"] == old {
			v["digest"], v["size"] = new, size
		}
		for _, e := range v {
			refer(e, old, new, size)
		}
	case []any:
		for _, e := range v {
			refer(e, old, new, size)
		}
	}
}

// tarOf is a layer of any entries.
func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// harm is what is wrong with a snapshot.
type harm struct {
	// what is layer, config or manifest, or the name of a file.
	what string
	// change is of the content; nil: it is removed.
	change func([]byte) []byte
	// forged: all that refers to it fits.
	forged bool
	// instead puts something else in its place.
	instead func(name string) error
}

func (h harm) done(t *testing.T, dir string) {
	t.Helper()
	manifest, config, layer := blobs(t, dir)
	name := map[string]string{"manifest": manifest, "config": config, "layer": layer}[h.what]
	if name == "" {
		name = filepath.Join(dir, h.what)
	}
	switch {
	case h.instead != nil:
		if err := h.instead(name); err != nil {
			t.Fatal(err)
		}
	case h.change == nil:
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	case h.forged:
		replaced(t, dir, name, h.change)
	default:
		edit(t, name, h.change)
	}
}

// other replaces text once; is puts other bytes in place of all.
func other(old, new string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
}

func is(content []byte) func([]byte) []byte { return func([]byte) []byte { return content } }

// TestHostileFolders: whatever is wrong with a snapshot is found, by Open or by Walk.
func TestHostileFolders(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "layer")
	farm := tarOf(t, link(tar.TypeSymlink, "srv/work", "/"), file("srv/work/etc", "evil"))
	for name, h := range map[string]harm{
		"a changed layer":    {what: "layer", change: other("content of a", "CONTENT of a")},
		"a cut layer":        {what: "layer", change: func(b []byte) []byte { return b[:len(b)-1024] }},
		"a longer layer":     {what: "layer", change: func(b []byte) []byte { return append(b, 0) }},
		"a changed config":   {what: "config", change: other("sbx_1", "sbx_2")},
		"a changed manifest": {what: "manifest", change: other(`"size":`, `"size": `)},
		"no layer":           {what: "layer"},
		"no config":          {what: "config"},
		"no manifest":        {what: "manifest"},
		"no index":           {what: "index.json"},
		"no mark":            {what: "oci-layout"},
		"another version":    {what: "oci-layout", change: other("1.0.0", "2.0.0")},
		"two documents":      {what: "index.json", change: func(b []byte) []byte { return append(b, b...) }},
		"a digest that leads out": {what: "index.json", change: func(b []byte) []byte {
			at := bytes.Index(b, []byte("sha256:"))
			return append(b[:at:at], append([]byte("sha256:../../../../../../etc/passwd"), b[at+71:]...)...)
		}},
		"a blob that is a link": {what: "layer", instead: func(name string) error {
			return errors.Join(os.Rename(name, elsewhere), os.Symlink(elsewhere, name))
		}},
		"an index that is a link": {what: "index.json", instead: func(name string) error {
			return errors.Join(os.Remove(name), os.Symlink("/etc/passwd", name))
		}},
		"an index that is a pipe": {what: "index.json", instead: func(name string) error {
			return errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600))
		}},
		"a forged layer that leads out":         {what: "layer", forged: true, change: is(tarOf(t, file("etc/passwd", "evil")))},
		"a forged layer with a farm of links":   {what: "layer", forged: true, change: is(farm)},
		"a forged layer with more than it says": {what: "layer", forged: true, change: is(tarOf(t, append(some(), file("srv/work/more", ""))...))},
		"a forged layer with less than it says": {what: "layer", forged: true, change: is(tarOf(t, some()[:3]...))},
		"a forged layer with other content":     {what: "layer", forged: true, change: other("content of a", "CONTENT of a")},
		"a forged layer that is no tar":         {what: "layer", forged: true, change: is(bytes.Repeat([]byte("no tar"), 500))},
		"a forged layer that ends within a file": {what: "layer", forged: true, change: func(b []byte) []byte {
			return b[:bytes.Index(b, []byte("content of a"))+3]
		}},
		"forged paths":             {what: "config", forged: true, change: other(`["/srv/work"`, `["/"`)},
		"a forged claim of memory": {what: "config", forged: true, change: other(`"memory":false`, `"memory":true`)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			if _, err := write(t, dir, somePaths, some()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := read(dir); err != nil {
				t.Fatal(err)
			}
			h.done(t, dir)
			if _, _, err := read(dir); !refusedAs(err) {
				t.Errorf("read with %v", err)
			}
		})
	}
}

// TestForgeryWithoutHarmIsRead proves that the forger of the test above forges well.
func TestForgeryWithoutHarmIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if _, err := write(t, dir, somePaths, some()); err != nil {
		t.Fatal(err)
	}
	_, config, _ := blobs(t, dir)
	replaced(t, dir, config, other("sbx_1", "sbx_22"))
	if _, l, err := read(dir); err != nil || l.Snapshot.Source.SandboxID != "sbx_22" {
		t.Errorf("read with %v", err)
	}
}

func TestHostileTarFiles(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.tar")
	if _, err := write(t, good, somePaths, some()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":          {},
		"no tar":         bytes.Repeat([]byte("x"), 4096),
		"cut":            raw[:len(raw)/2],
		"leads out":      tarOf(t, file("../oci-layout", "{}")),
		"absolute":       tarOf(t, file("/oci-layout", "{}")),
		"a link":         tarOf(t, link(tar.TypeSymlink, "oci-layout", "/etc/passwd")),
		"a hard link":    tarOf(t, link(tar.TypeLink, "oci-layout", "/etc/passwd")),
		"twice":          tarOf(t, file("oci-layout", "{}"), file("oci-layout", "{}")),
		"nothing behind": tarOf(t, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)),
	} {
		bad := filepath.Join(t.TempDir(), "bad.tar")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(bad); !refusedAs(err) {
			t.Errorf("%s: read with %v", name, err)
		}
	}
	if _, _, err := read(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent one: %v", err)
	}
}

// TestAnyChangeIsFound: of a snapshot in one file, no byte can be changed and no end
// be cut off without that being found, unless what is read is still the same.
func TestAnyChangeIsFound(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.tar")
	if _, err := write(t, good, somePaths, some()); err != nil {
		t.Fatal(err)
	}
	want, _, err := read(good)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.tar")
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(raw)
		if rapid.Bool().Draw(t, "cut") {
			b = b[:rapid.IntRange(0, len(b)-1).Draw(t, "length")]
		} else {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "with"))
		}
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, l, err := read(bad)
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" || l.Snapshot.Source.SandboxID != "sbx_1" {
			t.Fatalf("another snapshot was read: %s", diff)
		}
	})
}

// TestAnyTreeComesBack: whatever a gate admits is read back the same.
func TestAnyTreeComesBack(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c.]{1,3}(/[a-cé \n]{1,3}){0,3}`), 0, 12, rapid.ID).Draw(t, "names")
		in, admitted := portable.NewIntake([]string{"/w"}), []entry(nil)
		for _, name := range names {
			e := rapid.SampledFrom([]func() entry{
				func() entry { return dir("w/" + name) },
				func() entry { return file("w/"+name, rapid.StringN(0, 40, 40).Draw(t, "content")) },
				func() entry {
					return link(tar.TypeSymlink, "w/"+name, rapid.StringMatching(`(\.\./){0,3}[a-c/]{1,5}`).Draw(t, "target"))
				},
				func() entry { return link(tar.TypeLink, "w/"+name, "w/"+rapid.SampledFrom(names).Draw(t, "linked")) },
			}).Draw(t, "kind")()
			if h := e.Header; in.Take(&h, strings.NewReader(e.content), portable.Discard) == nil {
				admitted = append(admitted, e)
			}
		}
		n++
		name := filepath.Join(base, strings.Repeat("x", n%7+1)+rapid.SampledFrom([]string{"", ".tar"}).Draw(t, "form"))
		_ = os.RemoveAll(name)
		if _, err := portableWrite(name, admitted); err != nil {
			t.Fatal(err)
		}
		got, l, err := read(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(admitted) || l.Snapshot.Tree != in.Tree().Digest() {
			t.Fatalf("%d entries came back of %d", len(got), len(admitted))
		}
		for _, e := range admitted {
			if at := got[e.Name]; !strings.HasSuffix(at, " "+e.content) || !strings.HasPrefix(at, "/w "+string(e.Typeflag)+" "+e.Linkname) {
				t.Fatalf("%q came back as %q", e.Name, at)
			}
		}
	})
}

func portableWrite(name string, entries []entry) (string, error) {
	return write(noTB{}, name, []string{"/w"}, entries)
}

// noTB lets write be used where there is no testing.TB.
type noTB struct{ testing.TB }

func (noTB) Helper() {}
