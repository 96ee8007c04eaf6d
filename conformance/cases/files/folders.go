package files

import (
	"slices"
	"strconv"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// folders are the cases about making, listing, moving and removing.
func folders() []engine.Case {
	return []engine.Case{
		{
			ID: "fs/list-pages", Title: "A listing is in byte order of path, and pages give each file once.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-006"}, Needs: readWrite, Cost: 5,
			Run: listPages,
		},
		{
			ID: "fs/directories", Title: "Folders are made, with their parents when asked for, and removed, with their content when asked for.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001", "REQ-FS-003"}, Needs: readWrite, Cost: 5,
			Run: directories,
		},
		{
			ID: "fs/move", Title: "A move takes content and mode along, and replaces only when asked to.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: readWrite, Cost: 5,
			Run: move,
		},
		{
			ID: "fs/remove-link", Title: "Removing a link, or a folder with links in it, leaves what they point to.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-006"}, Needs: readWrite, Cost: 5,
			Run: removeLink,
		},
	}
}

func listPages(t *engine.T) {
	box := stage.Create(t)
	box.Sh(`mkdir -p /tmp/p/b /tmp/p/b.d; cd /tmp/p; for n in $(seq 1 12); do : > f$n; done; : > b/x; : > b/y; : > b.d/z; : > Z; : > a`).Code(0)
	for _, recursive := range []bool{false, true} {
		whole := pathsOf(box.List("/tmp/p", recursive, 0))
		want := 16
		if recursive {
			want = 19
		}
		if len(whole) != want {
			t.Errorf("ListFiles with recursive=%v gives %d files: want %d: %q", recursive, len(whole), want, whole)
		}
		if !slices.IsSorted(whole) {
			t.Errorf("ListFiles with recursive=%v gives %q: want them in byte order", recursive, whole)
		}
		for _, size := range []int32{1, 5, 16} {
			if paged := pathsOf(box.List("/tmp/p", recursive, size)); !slices.Equal(paged, whole) {
				t.Errorf("in pages of %d ListFiles gives %q: want %q", size, paged, whole)
			}
		}
	}
}

func pathsOf(list []*providerv1.FileInfo) []string {
	out := make([]string, len(list))
	for i, f := range list {
		out[i] = f.GetPath()
	}
	return out
}

func directories(t *engine.T) {
	box := stage.Create(t)
	ctx, c := t.Context(), t.Client()
	made := func(path string, parents bool, permissions uint32) error {
		_, err := c.MakeDirectory(ctx, &providerv1.MakeDirectoryRequest{Sandbox: box.Ref, Path: path, Parents: parents, Permissions: permissions})
		return err
	}
	stage.Refused(t, "MakeDirectory without its parent", made("/tmp/a/b/c", false, 0), providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
	stage.OK(t, "MakeDirectory with parents", made("/tmp/a/b/c", true, 0))
	stage.OK(t, "MakeDirectory with parents of one that exists", made("/tmp/a/b/c", true, 0))
	stage.OK(t, "MakeDirectory with a mode", made("/tmp/a/private", false, 0o700))
	for path, want := range map[string]uint32{"/tmp/a/b/c": 0o755, "/tmp/a/private": 0o700} {
		if info := box.Stat(path, false); info.GetType() != providerv1.FileType_FILE_TYPE_DIRECTORY || info.GetMode() != want {
			t.Errorf("StatFile of %s says %s with mode %#o: want a folder with mode %#o", path, info.GetType(), info.GetMode(), want)
		}
	}
	box.Write("/tmp/a/b/c/file", []byte("x"))
	_, err := c.RemoveFile(ctx, &providerv1.RemoveFileRequest{Sandbox: box.Ref, Path: "/tmp/a", Recursive: true})
	stage.OK(t, "RemoveFile of a folder with its content", err)
	if out := box.Sh("ls /tmp/a 2>/dev/null"); out.Exit.GetCode() == 0 {
		t.Errorf("after it was removed a command inside still sees the folder")
	}
	// WriteFile makes no folders unless it is asked to.
	_, err = box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/q/r/file"}, []byte("x"))
	stage.Refused(t, "WriteFile without its folder", err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
	_, err = box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/q/r/file", MakeParents: true}, []byte("x"))
	stage.OK(t, "WriteFile with make_parents", err)
}

func move(t *engine.T) {
	box := stage.Create(t)
	box.Sh("mkdir -p /tmp/m/to; cd /tmp/m; echo one > a; chmod 750 a; echo two > b; mkdir d; echo three > d/f").Code(0)
	moved := func(from, to string, overwrite bool) error {
		_, err := t.Client().MoveFile(t.Context(), &providerv1.MoveFileRequest{Sandbox: box.Ref, From: from, To: to, Overwrite: overwrite})
		return err
	}
	refusedWith(t, "MoveFile onto a file", moved("/tmp/m/a", "/tmp/m/b", false), "EEXIST")
	stage.OK(t, "MoveFile with overwrite", moved("/tmp/m/a", "/tmp/m/b", true))
	box.SameContent("/tmp/m/b", []byte("one\n"))
	if got := box.Stat("/tmp/m/b", false).GetMode(); got != 0o750 {
		t.Errorf("after the move the mode is %#o: want 0750, as it was", got)
	}
	_, err := t.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: "/tmp/m/a"})
	stage.Refused(t, "StatFile of what was moved away", err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND)
	stage.OK(t, "MoveFile of a folder", moved("/tmp/m/d", "/tmp/m/to/e", false))
	box.SameContent("/tmp/m/to/e/f", []byte("three\n"))
}

func removeLink(t *engine.T) {
	box := stage.Create(t)
	box.Sh("mkdir -p /tmp/keep /tmp/gone; echo kept > /tmp/keep/file; ln -s /tmp/keep /tmp/link; ln -s /tmp/keep /tmp/gone/link; ln -s /tmp/keep/file /tmp/gone/file").Code(0)
	for _, path := range []string{"/tmp/link", "/tmp/gone"} {
		_, err := t.Client().RemoveFile(t.Context(), &providerv1.RemoveFileRequest{Sandbox: box.Ref, Path: path, Recursive: true})
		stage.OK(t, "RemoveFile of "+path, err)
	}
	box.SameContent("/tmp/keep/file", []byte("kept\n"))
	if got := box.Line("ls -d /tmp/link /tmp/gone 2>/dev/null | wc -l"); got != strconv.Itoa(0) && got != "       0" {
		t.Errorf("after they were removed %s of them are still there", got)
	}
}
