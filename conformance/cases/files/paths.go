package files

import (
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// paths are the cases about names, links and refusals.
func paths() []engine.Case {
	return []engine.Case{
		{
			ID: "fs/names", Title: "Names with spaces, newlines, quotes, stars, a leading dash and any Unicode work.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-005"}, Needs: readWrite, Cost: 5,
			Run: names,
		},
		{
			ID: "fs/bad-path", Title: "A relative path, an empty one, or one with a NUL is refused and named.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-004"}, Needs: readWrite, Cost: 5,
			Run: badPath,
		},
		{
			ID: "fs/missing", Title: "What is missing is FILE_NOT_FOUND, and named.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-003"}, Needs: readWrite, Cost: 5,
			Run: missing,
		},
		{
			ID: "fs/refusals", Title: "What the file system refuses is FILE_REFUSED with the reason by its name.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-003"}, Needs: readWrite, Cost: 5,
			Run: refusals,
		},
		{
			ID: "fs/stays-inside", Title: "Dots and links are resolved inside: no path leads out.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-008"}, Needs: readWrite, Cost: 5,
			Run: staysInside,
		},
		{
			ID: "fs/stat-links", Title: "Stat and list show a link itself, and its target only when asked.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-006"}, Needs: readWrite, Cost: 5,
			Run: statLinks,
		},
	}
}

func names(t *engine.T) {
	box := stage.Create(t)
	list := []string{
		"a b", "tab\tname", "line\nbreak", `"quoted"`, "it's", "*", "?", "$HOME", "`id`", "-rf", "back\\slash", "sémantique", "日本語", "🏖", ".hidden", "a;b", "#", "~", "[x]",
	}
	for _, name := range list {
		box.Write("/tmp/n/"+name, []byte(name))
	}
	for _, name := range list {
		box.SameContent("/tmp/n/"+name, []byte(name))
	}
	if got := len(box.List("/tmp/n", false, 0)); got != len(list) {
		t.Errorf("%d files are listed: want %d", got, len(list))
	}
	if got := box.Line(`for f in /tmp/n/* /tmp/n/.h*; do printf %s "${f#/tmp/n/}" | tr '\n' ' '; echo; done | sort -u | wc -l`); strings.TrimSpace(got) != strconv.Itoa(len(list)) {
		t.Errorf("a command inside sees %s names: want %d", strings.TrimSpace(got), len(list))
	}
}

func badPath(t *engine.T) {
	box := stage.Create(t)
	for _, path := range []string{"", "relative", "./x", "nul\x00", "/tmp/nul\x00"} {
		what := strconv.Quote(path)
		_, err := t.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: path})
		f := stage.Refused(t, "StatFile of "+what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		stage.Names(t, "StatFile of "+what, f, fault.MetaField, "path")
		_, err = box.TryWrite(&providerv1.WriteFileOpen{Path: path}, []byte("x"))
		stage.Refused(t, "WriteFile of "+what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		_, _, err = box.TryRead(&providerv1.ReadFileRequest{Path: path})
		stage.Refused(t, "ReadFile of "+what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	}
}

func missing(t *engine.T) {
	box := stage.Create(t)
	const path = "/tmp/no/such/file"
	for what, err := range map[string]error{
		"StatFile":  second(t.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: path})),
		"ListFiles": second(t.Client().ListFiles(t.Context(), &providerv1.ListFilesRequest{Sandbox: box.Ref, Path: path})),
		"ReadFile":  third(box.TryRead(&providerv1.ReadFileRequest{Path: path})),
		"MoveFile":  second(t.Client().MoveFile(t.Context(), &providerv1.MoveFileRequest{Sandbox: box.Ref, From: path, To: "/tmp/x"})),
	} {
		f := stage.Refused(t, what+" of a missing file", err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
		if f.Metadata["path"] == "" {
			t.Errorf("%s of a missing file: want metadata[path]", what)
		}
	}
	resp, err := t.Client().RemoveFile(t.Context(), &providerv1.RemoveFileRequest{Sandbox: box.Ref, Path: path})
	stage.OK(t, "RemoveFile of a missing file", err)
	if !resp.GetAlreadyAbsent() {
		t.Errorf("RemoveFile of a missing file did not say already_absent")
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func refusals(t *engine.T) {
	box := stage.Create(t)
	box.Write("/tmp/r/file", []byte("x"))
	ctx, c, ref := t.Context(), t.Client(), box.Ref
	_, err := box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/r"}, []byte("x"))
	refusedWith(t, "WriteFile of a folder", err, "EISDIR", "EEXIST")
	_, _, err = box.TryRead(&providerv1.ReadFileRequest{Path: "/tmp/r"})
	refusedWith(t, "ReadFile of a folder", err, "EISDIR")
	_, err = c.ListFiles(ctx, &providerv1.ListFilesRequest{Sandbox: ref, Path: "/tmp/r/file"})
	refusedWith(t, "ListFiles of a file", err, "ENOTDIR")
	_, err = c.RemoveFile(ctx, &providerv1.RemoveFileRequest{Sandbox: ref, Path: "/tmp/r"})
	refusedWith(t, "RemoveFile of a folder that is not empty", err, "ENOTEMPTY", "EISDIR")
	_, err = c.MakeDirectory(ctx, &providerv1.MakeDirectoryRequest{Sandbox: ref, Path: "/tmp/r"})
	refusedWith(t, "MakeDirectory of one that exists", err, "EEXIST")
	_, err = c.MakeDirectory(ctx, &providerv1.MakeDirectoryRequest{Sandbox: ref, Path: "/tmp/r/file/below", Parents: true})
	refusedWith(t, "MakeDirectory below a file", err, "ENOTDIR", "EEXIST")
	box.Write("/tmp/r/other", []byte("y"))
	_, err = c.MoveFile(ctx, &providerv1.MoveFileRequest{Sandbox: ref, From: "/tmp/r/file", To: "/tmp/r/other"})
	refusedWith(t, "MoveFile onto a file, without overwrite", err, "EEXIST")
	box.SameContent("/tmp/r/other", []byte("y"))
	box.Sh("ln -s loop /tmp/r/loop").Code(0)
	_, _, err = box.TryRead(&providerv1.ReadFileRequest{Path: "/tmp/r/loop"})
	refusedWith(t, "ReadFile of a link to itself", err, "ELOOP")
}

func staysInside(t *engine.T) {
	box := stage.Create(t)
	box.Sh(`cd /tmp; echo inside > target; ln -s /tmp/target absolute; ln -s ../../../../../../../../tmp/target dots; mkdir d; ln -s /tmp d/up; ln -s /proc/1/root/tmp/target proc`).Code(0)
	for _, path := range []string{"/tmp/absolute", "/tmp/dots", "/../../../../tmp/target", "/tmp/d/up/target", "/tmp/../tmp/./target"} {
		box.SameContent(path, []byte("inside\n"))
	}
	// Where a file exists both inside and on any machine, it is the inside one
	// that is read and written.
	if want := box.Sh("cat /etc/passwd 2>/dev/null").Stdout; len(want) > 0 {
		box.SameContent("/etc/passwd", want)
		box.SameContent("/tmp/d/up/../../../etc/passwd", want)
	}
	box.Write("/tmp/d/up/written", []byte("through a link"))
	if got := box.Line("cat /tmp/written"); got != "through a link" {
		t.Errorf("a write through a link to a folder landed elsewhere: inside is %q", got)
	}
	box.Write("/../../tmp/dotted", []byte("x"))
	box.SameContent("/tmp/dotted", []byte("x"))
}

func statLinks(t *engine.T) {
	box := stage.Create(t)
	box.Sh("mkdir /tmp/l; cd /tmp/l; echo 12345 > file; ln -s file link; ln -s nowhere broken").Code(0)
	link := box.Stat("/tmp/l/link", false)
	if link.GetType() != providerv1.FileType_FILE_TYPE_SYMLINK || link.GetLinkTarget() != "file" {
		t.Errorf("StatFile of a link is %v: want a link to %q", link, "file")
	}
	if file := box.Stat("/tmp/l/link", true); file.GetType() != providerv1.FileType_FILE_TYPE_REGULAR || file.GetSize() != 6 {
		t.Errorf("StatFile of a link that is followed is %v: want the file of 6 bytes", file)
	}
	_, err := t.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: "/tmp/l/broken", Follow: true})
	stage.Refused(t, "StatFile of a broken link that is followed", err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
	for _, f := range box.List("/tmp/l", false, 0) {
		want := providerv1.FileType_FILE_TYPE_SYMLINK
		if strings.HasSuffix(f.GetPath(), "/file") {
			want = providerv1.FileType_FILE_TYPE_REGULAR
		}
		if f.GetType() != want {
			t.Errorf("ListFiles shows %s as %s: want %s", f.GetPath(), f.GetType(), want)
		}
	}
}
