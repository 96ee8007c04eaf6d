package portable_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// entry is an entry of a layer with its content.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Size: int64(len(content)), ModTime: time.Unix(981173106, 5)}, content}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, ""}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}, ""}
}

// some is a small tree with everything that a layer can have.
func some() []entry {
	return []entry{
		dir("srv/work"), file("srv/work/a", "content of a"), link(tar.TypeLink, "srv/work/b", "srv/work/a"),
		link(tar.TypeSymlink, "srv/work/out", "/etc/passwd"), dir("srv/work/ü \n"), file("srv/work/ü \n/"+strings.Repeat("x", 200), ""),
		file("tmp/one", "1"),
	}
}

var somePaths = []string{"/srv/work", "/tmp/one"}

// write makes a snapshot of entries, which must be good ones.
func write(tb testing.TB, name string, paths []string, entries []entry) (manifest string, err error) {
	tb.Helper()
	return portable.Write(name, time.Unix(1e9, 0), paths, func(l *portable.Layer) (*portable.Snapshot, *portable.Tree, error) {
		in := portable.NewIntake(paths)
		for _, e := range entries {
			if err := in.Take(&e.Header, strings.NewReader(e.content), l.Take); err != nil {
				return nil, nil, err
			}
		}
		snap := &portable.Snapshot{Source: portable.Source{SandboxID: "sbx_1", Provider: "fake"}, Statement: portable.Statement{Left: portable.Never(0)}}
		err := snap.Describe(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{Env: map[string]string{"TOKEN": "s3cret"}, Workdir: "/srv/work"}})
		return snap, in.Tree(), err
	})
}

// read returns what is in a snapshot.
func read(name string) (map[string]string, *portable.Layout, error) {
	l, err := portable.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	got := map[string]string{}
	bodies := map[string]*bytes.Buffer{}
	_, err = l.Walk(tbContext, func(root string, h *tar.Header) (io.Writer, error) {
		bodies[h.Name] = &bytes.Buffer{}
		got[h.Name] = root + " " + string(h.Typeflag) + " " + h.Linkname + " " + h.ModTime.UTC().Format(time.RFC3339)
		return bodies[h.Name], nil
	})
	for name, b := range bodies {
		got[name] += " " + b.String()
	}
	return got, l, err
}

func TestRoundTrip(t *testing.T) {
	var manifests []string
	for _, name := range []string{"folder", "packed.tar", "again"} {
		name := filepath.Join(t.TempDir(), name)
		manifest, err := write(t, name, somePaths, some())
		if err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, manifest)
		got, l, err := read(name)
		if err != nil {
			t.Fatal(err)
		}
		if l.Manifest != manifest || !l.Taken.Equal(time.Unix(1e9, 0)) || len(got) != len(some()) {
			t.Errorf("read %+v with %d entries", l, len(got))
		}
		if want := "/srv/work 0  2001-02-03T04:05:06Z content of a"; got["srv/work/a"] != want {
			t.Errorf("a is %q, want %q", got["srv/work/a"], want)
		}
		if got["srv/work/b"] != "/srv/work 1 srv/work/a 1970-01-01T00:00:00Z " || !strings.HasPrefix(got["tmp/one"], "/tmp/one 0") {
			t.Errorf("entries are %q", got)
		}
		want := portable.Count{Files: 4, Folders: 2, Links: 1, Bytes: 13}
		if diff := cmp.Diff(want, l.Snapshot.Count); diff != "" || l.Snapshot.Kept.Memory || !l.Snapshot.Kept.Disk {
			t.Errorf("it says %+v: %s", l.Snapshot, diff)
		}
		req, err := l.Snapshot.Request()
		if err != nil || req.GetSpec().GetWorkdir() != "/srv/work" || len(req.GetSpec().GetEnv()) != 0 || !cmp.Equal(l.Snapshot.Env, []string{"TOKEN"}) {
			t.Errorf("it says to create %v, %v; variables %q", req, err, l.Snapshot.Env)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); err != nil || len(left) != 0 {
			t.Errorf("beside it are %q", left)
		}
	}
	if manifests[0] != manifests[1] || manifests[0] != manifests[2] {
		t.Errorf("the same files have the manifests %q", manifests)
	}
}

// TestNoSecretIsWritten looks at every byte.
func TestNoSecretIsWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s.tar")
	if _, err := write(t, name, somePaths, some()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("s3cret")) || !bytes.Contains(raw, []byte("TOKEN")) {
		t.Error("the value of a variable is in the snapshot, or its name is not")
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is readable by others: %v, %v", info.Mode(), err)
	}
}

func TestNothingIsOverwrittenOrHalfWritten(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "s")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := write(t, name, somePaths, some())
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS)
	_, err = write(t, filepath.Join(dir, "half"), somePaths, append(some(), file("etc/passwd", "evil")))
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
}

func TestGateRefuses(t *testing.T) {
	for name, entries := range map[string][]entry{
		"dots":                            {file("srv/work/../../etc/passwd", "")},
		"dots at the end":                 {dir("srv/work/..")},
		"absolute":                        {file("/srv/work/a", "")},
		"elsewhere":                       {file("etc/passwd", "")},
		"a sibling of like name":          {file("srv/workshop", "")},
		"above":                           {dir("srv")},
		"twice":                           {file("srv/work/a", "1"), file("srv/work/a", "2")},
		"twice, as folder and file":       {dir("srv/work/a"), file("srv/work/a", "2")},
		"below a link":                    {link(tar.TypeSymlink, "srv/work/l", "/etc"), file("srv/work/l/passwd", "")},
		"far below a link":                {link(tar.TypeSymlink, "srv/work/l", ".."), file("srv/work/l/a/b/c", "")},
		"below the path, which is a link": {link(tar.TypeSymlink, "srv/work", "/etc"), file("srv/work/passwd", "")},
		"below a file":                    {file("srv/work/f", ""), file("srv/work/f/g", "")},
		"hard link to nothing":            {link(tar.TypeLink, "srv/work/h", "etc/passwd")},
		"hard link to what comes later":   {link(tar.TypeLink, "srv/work/h", "srv/work/a"), file("srv/work/a", "")},
		"hard link to a link":             {link(tar.TypeSymlink, "srv/work/l", "/etc/passwd"), link(tar.TypeLink, "srv/work/h", "srv/work/l")},
		"hard link to another path":       {file("tmp/one", ""), link(tar.TypeLink, "srv/work/h", "tmp/one")},
		"a device":                        {link(tar.TypeChar, "srv/work/null", "")},
		"a pipe":                          {link(tar.TypeFifo, "srv/work/p", "")},
		"empty":                           {file("", "")},
		"a long name":                     {file("srv/work/"+strings.Repeat("x/", 3000)+"x", "")},
	} {
		in := portable.NewIntake(somePaths)
		var err error
		for _, e := range entries {
			if err = in.Take(&e.Header, strings.NewReader(e.content), portable.Discard); err != nil {
				break
			}
		}
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for p, good := range map[string]bool{
		"/srv": true, "/a/b c": true, "/process": true, "/": false, "": false, "srv": false, "/srv/": false, "/srv//a": false, "/srv/../etc": false,
		"/..": false, "/proc": false, "/proc/1": false, "/sys/x": false, "/dev/shm": false,
	} {
		if err := portable.CheckPath(p); (err == nil) != good {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestTreesDiffer(t *testing.T) {
	tree := func(entries ...entry) *portable.Tree {
		in := portable.NewIntake([]string{"/w"})
		for _, e := range entries {
			if err := in.Take(&e.Header, strings.NewReader(e.content), portable.Discard); err != nil {
				t.Fatal(err)
			}
		}
		return in.Tree()
	}
	owned := file("w/a", "1")
	owned.Uid, owned.ModTime = 7, time.Unix(5, 0)
	run := file("w/a", "1")
	run.Mode = 0o755
	base := tree(dir("w"), file("w/a", "1"))
	for name, c := range map[string]struct {
		tree *portable.Tree
		diff string
	}{
		"the same":        {tree(file("w/a", "1"), dir("w")), ""},
		"owner and time":  {tree(dir("w"), owned), ""},
		"content":         {tree(dir("w"), file("w/a", "2")), `"/w/a" has other content`},
		"mode":            {tree(dir("w"), run), `"/w/a" has mode 755 instead of 640`},
		"missing":         {tree(dir("w")), `"/w/a" is missing`},
		"another kind":    {tree(dir("w"), dir("w/a")), `"/w/a" is of another kind`},
		"one more":        {tree(dir("w"), file("w/a", "1"), file("w/b", "")), `"/w/b" is too many`},
		"link and target": {tree(dir("w"), link(tar.TypeSymlink, "w/a", "1")), `"/w/a" is of another kind`},
	} {
		if got := strings.Join(base.Diff(c.tree), ", "); got != c.diff {
			t.Errorf("%s: %q, want %q", name, got, c.diff)
		}
		if same := base.Digest() == c.tree.Digest(); same != (c.diff == "") {
			t.Errorf("%s: the digests are the same: %v", name, same)
		}
	}
	if o, ts := base.Owners(tree(dir("w"), owned)), base.Times(tree(dir("w"), owned)); o != 1 || ts != 1 {
		t.Errorf("%d owners and %d times differ, want one each", o, ts)
	}
	// Which name of a file comes first does not matter.
	one := tree(dir("w"), file("w/a", "1"), link(tar.TypeLink, "w/b", "w/a"))
	two := tree(dir("w"), file("w/b", "1"), link(tar.TypeLink, "w/a", "w/b"))
	if diff := one.Diff(two); len(diff) != 0 {
		t.Errorf("hard links differ: %q", diff)
	}
}

func TestMemoryIsRefused(t *testing.T) {
	wantReason(t, portable.Need(&providerv1.Keeps{Disk: true, Memory: true}), providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	wantReason(t, portable.Need(&providerv1.Keeps{Processes: true}), providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	if err := portable.Need(&providerv1.Keeps{Disk: true}); err != nil {
		t.Error(err)
	}
}

func wantReason(t *testing.T, err error, reason providerv1.ErrorReason) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != reason {
		t.Errorf("got %v, want %v", err, reason)
	}
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
