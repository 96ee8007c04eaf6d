package files

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/plugins/internal/runner"
)

// script asks the script for perl for something, as a shell in a sandbox would. What
// it says of times is left out.
func script(t *testing.T, dir string, args ...string) said {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", runner.Launcher, "sandbar", "files", filesScript}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !Whole(string(out)) {
		t.Fatalf("%q ends without a last line: %q", args, out)
	}
	s, err := parseSaid(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scene is a folder that a shell script has filled.
func scene(t *testing.T, shell string) string {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("there is no perl on this machine, which the script is written for")
	}
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-ec", "umask 022; "+shell)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func TestFilesScript(t *testing.T) {
	for _, tc := range []struct {
		name, scene string
		args        []string
		// want is what it says of files, as kind, mode, size, name and target, or else
		// errno and name.
		want []string
		// then is what a shell prints afterwards.
		shell, then string
	}{
		{name: "stat", scene: "echo 12345 > f; chmod 4750 f", args: []string{"stat", "0", "f"}, want: []string{"r 4750 6 f "}},
		{name: "stat of a link", scene: "ln -s 'no where' l", args: []string{"stat", "0", "l"}, want: []string{"l 777 8 l no where"}},
		{name: "stat that follows", scene: "ln -s nowhere l", args: []string{"stat", "1", "l"}, want: []string{"errno 2 l"}},
		{
			name: "a listing in byte order", scene: `mkdir b b.d; : > b/x; : > "a
b"; : > Z; : > b.d/é`,
			args: []string{"list", "1", "10", "", "."},
			want: []string{"r 644 0 Z ", "r 644 0 a\nb ", "d 755 4096 b ", "d 755 4096 b.d ", "r 644 0 b.d/é ", "r 644 0 b/x "},
		},
		{name: "its second page", scene: ": > a; : > %41; : > b; : > c", args: []string{"list", "0", "1", "a", "."}, want: []string{"r 644 0 b ", "more"}},
		{name: "a listing of a file", scene: ": > f", args: []string{"list", "0", "9", "", "f"}, want: []string{"errno 20 f"}},
		{
			name: "a part", scene: "printf 0123456789 > f", args: []string{"read", "3", "4", "part", "f"}, want: []string{"r 644 10 f "},
			shell: "cat part", then: "3456",
		},
		{name: "a part of a folder", scene: "mkdir d", args: []string{"read", "0", "0", "", "d"}, want: []string{"errno 21 d"}},
		{
			name: "a write through a link", scene: "mkdir d; printf old > d/f; chmod 640 d/f; ln -s d/f l; printf ne > s.0; printf w > s.1",
			args: []string{"write", "replace", "600", "0", "0", "s", "2", "l"}, want: []string{"r 640 3 l "},
			shell: "cat d/f; readlink l; ls -A d; ls s.* 2>/dev/null || true", then: "newd/f\nf\n",
		},
		{
			name: "a write of nothing with its folders", args: []string{"write", "replace", "604", "1", "0", "s", "0", "a/b/f"}, want: []string{"r 604 0 a/b/f "},
		},
		{
			name: "a new file that exists", scene: "printf old > f; printf new > s.0", args: []string{"write", "new", "644", "0", "0", "s", "1", "f"},
			want: []string{"errno 17 f"}, shell: "cat f; ls -A", then: "oldf\n",
		},
		{
			name: "an end", scene: "printf old > f; printf new > s.0", args: []string{"write", "append", "644", "0", "0", "s", "1", "f"},
			want: []string{"r 644 6 f "}, shell: "cat f", then: "oldnew",
		},
		{
			name: "a middle", scene: "printf 012345 > f; printf xy > s.0", args: []string{"write", "at", "644", "0", "2", "s", "1", "f"},
			want: []string{"r 644 6 f "}, shell: "cat f", then: "01xy45",
		},
		{name: "a link to itself", scene: "ln -s l l", args: []string{"write", "replace", "644", "0", "0", "s", "0", "l"}, want: []string{"errno 40 l"}},
		{
			name: "a removal leaves what links lead to", scene: "mkdir keep d; : > keep/f; ln -s ../keep d/l; : > d/f", args: []string{"remove", "1", "d"},
			shell: "ls -A . keep", then: ".:\nkeep\n\nkeep:\nf\n",
		},
		{name: "a removal of nothing", args: []string{"remove", "0", "f"}, want: []string{"absent"}},
		{name: "a removal of a full folder", scene: "mkdir d; : > d/f", args: []string{"remove", "0", "d"}, want: []string{"errno 39 d"}},
		{name: "a move onto a file", scene: ": > a; : > b", args: []string{"move", "0", "a", "b"}, want: []string{"errno 17 b"}},
		{name: "a move of nothing", args: []string{"move", "0", "a", "b"}, want: []string{"errno 2 a"}},
		{name: "a folder that exists", scene: "mkdir d", args: []string{"mkdir", "755", "0", "d"}, want: []string{"errno 17 d"}},
		{name: "a folder with its parents", args: []string{"mkdir", "700", "1", "a/b"}, shell: "ls -ld a a/b | cut -c1-10", then: "drwxr-xr-x\ndrwx------\n"},
		{name: "something else", args: []string{"dance"}, want: []string{"errno 38 dance"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := scene(t, tc.scene+"\n:")
			s := script(t, dir, tc.args...)
			var got []string
			for _, f := range s.files {
				if f.kind == "d" {
					f.size = 4096 // file systems differ
				}
				got = append(got, strings.Join([]string{f.kind, octal(f.mode), strconv.FormatInt(f.size, 10), f.name, f.target}, " "))
			}
			switch {
			case s.errno != 0:
				got = append(got, "errno "+strconv.Itoa(s.errno)+" "+s.name)
			case s.more:
				got = append(got, "more")
			case s.absent:
				got = append(got, "absent")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("it says (- want, + got):\n%s", diff)
			}
			if tc.shell == "" {
				return
			}
			cmd := exec.Command("/bin/sh", "-ec", tc.shell)
			cmd.Dir = dir
			if out, err := cmd.Output(); err != nil || string(out) != tc.then {
				t.Errorf("afterwards %q prints %q, %v: want %q", tc.shell, out, err, tc.then)
			}
		})
	}
}

// TestTreesScript: a tree that is packed and unpacked elsewhere is the same, and
// nothing is unpacked through a link.
func TestTreesScript(t *testing.T) {
	dir := scene(t, `mkdir -p tree/in/ner; printf content > tree/f; chmod 4711 tree/f; ln tree/f tree/in/hard; ln -s ../f tree/in/link
touch -d 2001-02-03T04:05:06Z tree/f; printf x > 'tree/in/ner/a b'; chmod 500 tree/in/ner; touch -d 2001-02-03T04:05:06Z tree/in`)
	if s := script(t, dir, "pack", "out", "tree", "tree"); s.errno != 0 {
		t.Fatalf("pack: errno %d of %s", s.errno, s.name)
	}
	packed, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	for i, piece := range [][]byte{packed[:100], packed[100:]} { // in the middle of a line
		if err := os.WriteFile(filepath.Join(dir, "s."+strconv.Itoa(i)), piece, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s := script(t, dir, "unpack", "0", "to/there", dir+"/s", "2"); s.errno != 0 {
		t.Fatalf("unpack: errno %d of %s", s.errno, s.name)
	}
	const look = `cd "$0"; find . -exec stat -c '%n %F %a %s %h' {} + | sort; stat -c %Y f in; cat f 'in/ner/a b'; readlink in/link; chmod 700 in/ner`
	var seen [2]string
	for i, at := range []string{"tree", "to/there/tree"} {
		out, err := exec.Command("/bin/sh", "-ec", look, filepath.Join(dir, at)).Output()
		if err != nil {
			t.Fatal(err)
		}
		seen[i] = string(out)
	}
	if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
		t.Errorf("what was unpacked differs (- packed, + unpacked):\n%s", diff)
	}
	for name, tree := range map[string]string{
		"a link":          "file l 777 0 0 0 0 l ../outside\nfile r 644 0 0 1 0 l/f\nx",
		"a link on disk":  "file r 644 0 0 1 0 disk/f\nx",
		"a folder's link": "file d 755 0 0 0 0 disk/d\n",
		"a hard link":     "file h 644 0 0 0 0 h disk/kept\n",
	} {
		dir := scene(t, "mkdir outside to; printf kept > outside/kept; ln -s ../outside to/disk")
		if err := os.WriteFile(filepath.Join(dir, "s.0"), []byte(tree), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := script(t, dir, "unpack", "0", "to", dir+"/s", "1"); s.errno != 1 {
			t.Errorf("%s: errno %d of %s: want EPERM", name, s.errno, s.name)
		}
		if names, err := os.ReadDir(filepath.Join(dir, "outside")); err != nil || len(names) != 1 {
			t.Errorf("%s: outside there are %v, %v: want what was there", name, names, err)
		}
	}
}

// TestTreeLines: entries that lead out of the folder, and those that nobody can
// unpack, are refused before anything is sent.
func TestTreeLines(t *testing.T) {
	for _, tc := range []struct {
		header tar.Header
		want   string
	}{
		{tar.Header{Name: "./a b", Typeflag: tar.TypeReg, Mode: 0o100644, Size: 5}, "file r 644 0 0 5 0 a%20b\n"},
		{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1755}, "file d 1755 0 0 0 0 d\n"},
		{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Mode: 0o777}, "file l 777 0 0 0 0 l /etc/passwd\n"},
		{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "./a", Mode: 0o644, Uid: 7, Gid: 8}, "file h 644 7 8 0 0 h a\n"},
		{tar.Header{Name: "./", Typeflag: tar.TypeDir}, ""},
		{tar.Header{Name: "/abs", Typeflag: tar.TypeReg}, "EPERM"},
		{tar.Header{Name: "a/../../up", Typeflag: tar.TypeReg}, "EPERM"},
		{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../up"}, "EPERM"},
		{tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}, "EPERM"},
	} {
		tc.header.ModTime = tc.header.ModTime.AddDate(1969, 0, 0) // the start of 1970
		got, err := treeLine(&tc.header)
		if err != nil {
			got = "EPERM"
		}
		if got != tc.want {
			t.Errorf("%q is %q, %v: want %q", tc.header.Name, got, err, tc.want)
		}
	}
}

// TestSaid: what cannot be understood is never taken for an end.
func TestSaid(t *testing.T) {
	for _, text := range []string{"file r 644\n", "file r 644 0 0 -1 0 f\n", "file r 9 0 0 0 0 f\n", "file r 644 0 0 0 0 %4\n", "errno 0 f\n", "errno x f\n", "what\n"} {
		if s, err := parseSaid(text); err == nil {
			t.Errorf("%q is %+v: want it refused", text, s)
		}
	}
	for text, want := range map[string]bool{"done\n": true, "more\ndone\n": true, "errno 2 f\n": true, "done": false, "file done\n": false, "": false} {
		if Whole(text) != want {
			t.Errorf("%q is whole: want %t", text, want)
		}
	}
}

// TestPackOne: a file that ends early breaks the archive, and is not filled up.
func TestPackOne(t *testing.T) {
	out := tar.NewWriter(io.Discard)
	if err := packOne(out, "file r 644 0 0 5 0 f", bytes.NewReader([]byte("four"))); err == nil {
		t.Error("a file of 5 bytes with 4 was packed")
	}
}
