package files

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// archives are the cases about tar streams.
func archives() []engine.Case {
	both := []string{"archive.download", "archive.upload"}
	return []engine.Case{
		{
			ID: "archive/roundtrip", Title: "A tree that is downloaded and uploaded elsewhere is equal: content, modes, times, symbolic and hard links.",
			Profile: engine.Files, Requirements: []string{"REQ-ARC-001"}, Needs: both, Cost: 10,
			Run: archiveRoundtrip,
		},
		{
			ID: "archive/several", Title: "Each path appears in the archive under its last element; a missing one is refused.",
			Profile: engine.Files, Requirements: []string{"REQ-ARC-001", "REQ-FS-003"}, Needs: both[:1], Cost: 5,
			Run: archiveSeveral,
		},
		{
			ID: "archive/escape", Title: "An entry that would land outside the target, by its name or through a link, fails the call, and nothing lands there.",
			Profile: engine.Files, Requirements: []string{"REQ-ARC-002"}, Needs: both[1:], Cost: 10,
			Run: archiveEscape,
		},
		{
			ID: "archive/cut", Title: "An archive that is cut in the middle fails the call.",
			Profile: engine.Files, Requirements: []string{"REQ-ARC-003"}, Needs: both[1:], Cost: 5,
			Run: archiveCut,
		},
		{
			ID: "archive/owners", Title: "Owners are the archive's numbers when they are to be kept.",
			Profile: engine.Files, Requirements: []string{"REQ-ARC-001"}, Needs: both[1:], Cost: 5,
			Run: archiveOwners,
		},
	}
}

// entry is one line of an archive.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func link(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

func pack(t *engine.T, entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Broken("write the archive: %v", err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Broken("write the archive: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Broken("write the archive: %v", err)
	}
	return out.Bytes()
}

// listing is an archive as lines that can be compared, sorted.
func listing(t *engine.T, archive []byte) []string {
	var lines []string
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(lines)
			return lines
		}
		if err != nil {
			t.Fatalf("what was downloaded is no archive: %v", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("what was downloaded is no archive: %v", err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		line := name + " " + string(rune(h.Typeflag)) + " " + strconv.FormatInt(h.Mode&0o7777, 8) + " " + h.Linkname + " " + sum(content)
		if h.Typeflag == tar.TypeReg {
			line += " " + h.ModTime.UTC().Format(time.RFC3339)
		}
		lines = append(lines, line)
	}
}

func archiveRoundtrip(t *engine.T) {
	box := stage.Create(t)
	box.Sh(`mkdir -p "/tmp/tree/a b/c"; cd /tmp/tree; head -c 70000 /dev/urandom > data; echo run > tool; chmod 4755 tool; chmod 700 "a b"
echo x > "a b/c/été"; ln -s ../data "a b/link"; ln -s nowhere broken; ln data hard; : > empty; touch -d 2001-02-03T04:05:06Z data`).Code(0)
	first, err := box.Download("/tmp/tree")
	stage.OK(t, "DownloadArchive", err)
	before := listing(t, first)
	if len(before) != 10 {
		t.Errorf("the archive has %d entries: want 10: %q", len(before), before)
	}
	resp, err := box.Upload(&providerv1.UploadArchiveOpen{Path: "/tmp/there"}, first)
	stage.OK(t, "UploadArchive", err)
	if resp.GetFiles() < 5 || resp.GetBytes() < 70000 {
		t.Errorf("UploadArchive counted %d files and %d bytes: want what was in the archive", resp.GetFiles(), resp.GetBytes())
	}
	second, err := box.Download("/tmp/there/tree")
	stage.OK(t, "DownloadArchive of what was uploaded", err)
	after := listing(t, second)
	for i := range max(len(before), len(after)) {
		if i >= len(before) || i >= len(after) || before[i] != after[i] {
			t.Fatalf("what was uploaded differs from what was downloaded:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
	if got := box.Line(`cd /tmp/there/tree; sha256sum < data; sha256sum < hard; cat "a b/c/été"; readlink "a b/link"`); !strings.HasSuffix(got, "x\n../data") {
		t.Errorf("a command inside sees %q: want the tree", got)
	}
	box.Sh("echo more >> /tmp/there/tree/hard").Code(0)
	if box.Line("sha256sum < /tmp/there/tree/data") != box.Line("sha256sum < /tmp/there/tree/hard") {
		t.Errorf("two names of one file became two files: want the hard link to be kept")
	}
}

func archiveSeveral(t *engine.T) {
	box := stage.Create(t)
	box.Sh("mkdir -p /tmp/s/one /tmp/s/two; echo 1 > /tmp/s/one/f; echo 2 > /tmp/s/two/f; echo 3 > /tmp/s/three").Code(0)
	archive, err := box.Download("/tmp/s/one", "/tmp/s/three")
	stage.OK(t, "DownloadArchive of two paths", err)
	var got []string
	for _, line := range listing(t, archive) {
		name, _, _ := strings.Cut(line, " ")
		got = append(got, name)
	}
	if want := []string{"one", "one/f", "three"}; !slices.Equal(got, want) {
		t.Errorf("the archive has %q: want %q", got, want)
	}
	_, err = box.Download("/tmp/s/one", "/tmp/s/missing")
	stage.Refused(t, "DownloadArchive of a missing path", err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
}

func archiveEscape(t *engine.T) {
	box := stage.Create(t)
	box.Sh("mkdir -p /tmp/out /tmp/in; echo untouched > /tmp/out/file; ln -s /tmp/out /tmp/in/disk").Code(0)
	for what, archive := range map[string][]byte{
		"dots":                     pack(t, file("../out/file", "evil")),
		"dots in the middle":       pack(t, file("a/../../out/file", "evil")),
		"an absolute name":         pack(t, file("/tmp/out/file", "evil")),
		"a link in the archive":    pack(t, link("l", "/tmp/out"), file("l/file", "evil")),
		"a relative link":          pack(t, link("r", "../out"), file("r/file", "evil")),
		"a link on the disk":       pack(t, file("disk/file", "evil")),
		"a hard link from outside": pack(t, entry{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../out/file"}, ""}, file("h", "evil")),
	} {
		_, err := box.Upload(&providerv1.UploadArchiveOpen{Path: "/tmp/in"}, archive)
		stage.Refused(t, "UploadArchive with "+what, err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED)
		if got := box.Line("cat /tmp/out/file; ls /tmp/out"); got != "untouched\nfile" {
			t.Fatalf("an archive with %s changed what is outside of its target: %q", what, got)
		}
	}
}

func archiveCut(t *engine.T) {
	box := stage.Create(t)
	archive := pack(t, file("a", strings.Repeat("a", 50_000)), file("b", strings.Repeat("b", 50_000)))
	_, err := box.Upload(&providerv1.UploadArchiveOpen{Path: "/tmp/cut"}, archive[:80_000])
	if err == nil {
		t.Fatalf("an archive that was cut in the middle was accepted: want it refused")
	}
	stage.ProperError(t, "UploadArchive of an archive that was cut", err)
}

func archiveOwners(t *engine.T) {
	box := stage.Create(t)
	owned := file("owned", "x")
	owned.Uid, owned.Gid = 1234, 4321
	for keep, want := range map[bool]string{true: "1234 4321", false: box.Line("id -u") + " " + box.Line("id -g")} {
		_, err := box.Upload(&providerv1.UploadArchiveOpen{Path: "/tmp/o", KeepOwners: keep}, pack(t, owned))
		stage.OK(t, "UploadArchive", err)
		if got := box.Line(`set -- $(ls -ln /tmp/o/owned); echo $3 $4`); got != want {
			t.Errorf("with keep_owners=%v the file belongs to %q: want %q", keep, got, want)
		}
	}
}
