package e2e_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes a file in a folder of the world.
func (w *world) write(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) read(path string) string {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Error(err)
	}
	return string(b)
}

var oddNames = []string{
	"two words", " space at both ends ", "ünï–cødé 漢字 🦀", "new\nline", "-rf", "--help", "*?[a]", `quote'"\back`, "tab\there", "$HOME", "a:b",
	"e\u0301 and \u00e9", strings.Repeat("x", 255),
}

// TestOddNames takes files with odd names in and out, one by one and in a folder.
func TestOddNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	for i, name := range oddNames {
		w.write("in/"+name, fmt.Sprint("content ", i))
	}
	w.ok("cp", filepath.Join(w.dir, "in"), sb+":/tmp/")
	w.ok("cp", sb+":/tmp/in", filepath.Join(w.dir, "out"))
	for i, name := range oddNames {
		if got := w.read(filepath.Join(w.dir, "out", name)); got != fmt.Sprint("content ", i) {
			t.Errorf("%q came back as %q", name, got)
		}
	}
	w.ok("exec", sb, "--", "mkdir", "/tmp/single")
	for i, name := range oddNames[:len(oddNames)-1] {
		w.ok("cp", filepath.Join(w.dir, "in", name), sb+":/tmp/single/"+name)
		if got := w.ok("exec", sb, "--", "cat", "/tmp/single/"+name); got != fmt.Sprint("content ", i) {
			t.Errorf("%q is %q inside", name, got)
		}
		back := filepath.Join(w.dir, "back")
		w.ok("cp", sb+":/tmp/single/"+name, back)
		if got := w.read(back); got != fmt.Sprint("content ", i) {
			t.Errorf("%q alone came back as %q", name, got)
		}
	}
}

// TestOddArguments passes odd words on, byte for byte, as arguments, environment
// and working folder, and mounts a folder of an odd name.
func TestOddArguments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	for _, word := range append(oddNames, "", "--", "-") {
		if res := w.run("exec", sb, "--", "printf", "%s|", "-x", word, "last"); res.code != 0 || res.stdout != "-x|"+word+"|last|" {
			t.Errorf("argument %q: %+v", word, res)
		}
		if res := w.run("exec", "-e", "WORD="+word, sb, "--", "sh", "-c", `printf %s "$WORD"`); res.stdout != word {
			t.Errorf("variable %q: %+v", word, res)
		}
	}
	// What would not arrive as it is, is refused.
	w.wants(125, `"\xff\xfe"`, "exec", sb, "--", "printf", "\xff\xfe")
	cmd := w.command("exec", "-e", "WORD", sb, "--", "true")
	cmd.Env = append(slices.Clone(w.env), "WORD=\xff")
	if res := w.finish(cmd); res.code != 125 || !strings.Contains(res.stderr, `"WORD" is not UTF-8`) {
		t.Errorf("a variable of odd bytes: %+v", res)
	}
	for i, name := range oddNames {
		if strings.Contains(name, ":") || len(name) > 100 {
			continue
		}
		folder := filepath.Dir(w.write("mounts/"+name+"/file", fmt.Sprint(i)))
		res := w.run("run", "--mount", folder+":/mnt/"+name, "-w", "/mnt/"+name, "--", "cat", "file")
		if res.code != 0 || res.stdout != fmt.Sprint(i) {
			t.Errorf("mount of %q: %+v", name, res)
		}
	}
}

// TestSymlinkFarm copies ten thousand links, among them loops and links that
// leave the folder, both ways; links stay links.
func TestSymlinkFarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	secret := w.write("secret", "do not follow me")
	farm := filepath.Join(w.dir, "farm")
	const links = 10000
	if err := os.Mkdir(farm, 0o755); err != nil {
		t.Fatal(err)
	}
	target := func(i int) string {
		switch i % 5 {
		case 0:
			return fmt.Sprint(i) // itself
		case 1:
			return fmt.Sprint((i + 5) % links) // a ring
		case 2:
			return "../secret"
		case 3:
			return secret
		default:
			return "."
		}
	}
	for i := range links {
		if err := os.Symlink(target(i), filepath.Join(farm, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.ok("cp", farm, sb+":/tmp/farm")
	if n := w.number(w.sh(sb, "find /tmp/farm -type l | wc -l")); n != links {
		t.Errorf("%d links inside, want %d", n, links)
	}
	if res := w.run("exec", sb, "--", "cat", "/tmp/farm/2", "/tmp/farm/3"); strings.Contains(res.stdout, "follow") {
		t.Errorf("a link led out: %q", res.stdout)
	}
	w.ok("cp", sb+":/tmp/farm", filepath.Join(w.dir, "back"))
	for i := range links {
		if got, err := os.Readlink(filepath.Join(w.dir, "back", fmt.Sprint(i))); err != nil || got != target(i) {
			t.Fatalf("link %d: %q, %v; want %q", i, got, err, target(i))
		}
	}
}

// TestEscapes: nothing that a sandbox or an archive says makes cp write or read
// outside of what was named.
func TestEscapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	victim := w.write("victim", "unharmed")
	secret := w.write("secret", "host secret")

	// Out of the sandbox: links that point at our files, in the place of folders
	// and of files.
	w.sh(sb, "mkdir -p /tmp/evil && cd /tmp/evil && ln -s "+w.dir+" dir && ln -s "+victim+" file && ln -s ../../../../../../"+victim+" up")
	w.ok("cp", sb+":/tmp/evil", filepath.Join(w.dir, "evil"))
	again := w.run("cp", sb+":/tmp/evil", filepath.Join(w.dir, "evil"))
	w.sh(sb, "cd /tmp/evil && rm dir file up && mkdir dir && echo harm > dir/victim && echo harm > file && echo harm > up")
	third := w.run("cp", sb+":/tmp/evil/.", filepath.Join(w.dir, "evil"))
	if got := w.read(victim); got != "unharmed" {
		t.Errorf("a file outside was overwritten: %q (%+v, %+v)", got, again, third)
	}

	// Out of the sandbox by name: the sandbox's own files are all there is.
	for _, name := range []string{secret, "/../../../../" + secret, "/proc/1/root" + secret, "/tmp/../.." + secret} {
		if res := w.run("cp", sb+":"+name, filepath.Join(w.dir, "stolen")); res.code == 0 {
			t.Errorf("cp of %q: %+v", name, res)
		}
	}
	w.sh(sb, "ln -s "+secret+" /tmp/link")
	w.run("cp", sb+":/tmp/link", filepath.Join(w.dir, "link"))

	// Into the sandbox: a hostile archive may hurt the sandbox alone.
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	entries := []tar.Header{
		{Name: "../../../../../../" + w.dir + "/planted-up", Typeflag: tar.TypeReg, Size: 4, Mode: 0o644},
		{Name: w.dir + "/planted-absolute", Typeflag: tar.TypeReg, Size: 4, Mode: 0o644},
		{Name: "out", Typeflag: tar.TypeSymlink, Linkname: w.dir},
		{Name: "out/planted-by-link", Typeflag: tar.TypeReg, Size: 4, Mode: 0o644},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../../../../.." + secret},
	}
	for _, e := range entries {
		var one bytes.Buffer
		for _, out := range []*tar.Writer{tw, tar.NewWriter(&one)} {
			if err := out.WriteHeader(&e); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Write([]byte("harm")[:e.Size]); err != nil {
				t.Fatal(err)
			}
			if out != tw {
				if err := out.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.feed(one.String(), "cp", "-", sb+":/tmp/")
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	w.feed(buf.String(), "cp", "-", sb+":/tmp/")
	if left, err := filepath.Glob(filepath.Join(w.dir, "planted*")); err != nil || len(left) != 0 {
		t.Errorf("planted outside: %v %v", left, err)
	}
	if res := w.run("exec", sb, "--", "sh", "-c", "cat /tmp/hard /tmp/link "+secret); strings.Contains(res.stdout, "host secret") {
		t.Errorf("the sandbox reads %q", res.stdout)
	}
	if out := w.sh(sb, "echo fine"); out != "fine" {
		t.Errorf("afterwards: %q", out)
	}
}

// TestFilesKeepContentAndMode copies a folder in and out.
func TestFilesKeepContentAndMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.create()
	tool := w.write("project/bin/tool", "#!/bin/sh\necho works")
	w.write("project/empty", "")
	if err := errors.Join(os.Chmod(tool, 0o755), os.Mkdir(filepath.Join(w.dir, "project/none"), 0o755)); err != nil {
		t.Fatal(err)
	}
	w.ok("cp", filepath.Join(w.dir, "project"), sb+":/srv/project")
	if out := w.ok("exec", sb, "--", "/srv/project/bin/tool"); out != "works" {
		t.Errorf("the tool says %q", out)
	}
	w.sh(sb, "rm /srv/project/empty && echo made > /srv/project/made && chmod 600 /srv/project/made")
	back := filepath.Join(w.dir, "back")
	w.ok("cp", sb+":/srv/project", back)
	if got := w.read(back + "/made"); got != "made\n" {
		t.Errorf("made inside: %q", got)
	}
	if info, err := os.Stat(back + "/bin/tool"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the tool came back as %v, %v", info, err)
	}
	if info, err := os.Stat(back + "/none"); err != nil || !info.IsDir() {
		t.Errorf("the empty folder came back as %v, %v", info, err)
	}
	w.wants(1, "/srv/nothing", "cp", sb+":/srv/nothing", back)
	w.wants(1, "no-such", "cp", "no-such", sb+":/srv/")
}
