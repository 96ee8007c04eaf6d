package files

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ctx is what stage.Eventually gives to a look.
type ctx = context.Context

// hostMounts are the cases about folders of the machine, for providers that run
// on it.
func hostMounts() []engine.Case {
	plugin := []subject.Kind{subject.Binary, subject.InProcess}
	return []engine.Case{
		{
			ID: "mount/host-modes", Title: "A folder of the machine is read-only, or written through, as the mount's mode says.",
			Profile: engine.Files, Requirements: []string{"REQ-MNT-001"}, Needs: []string{"mount.host"}, Kinds: plugin, Cost: 10,
			Run: hostModes,
		},
		{
			ID: "mount/host-overlay", Title: "Writes to an overlay of a folder stay in the sandbox: the folder is never changed, and DiffFiles lists them.",
			Profile: engine.Files, Requirements: []string{"REQ-MNT-001", "REQ-DIFF-001"}, Needs: []string{"mount.host", "mount.overlay"}, Kinds: plugin, Cost: 10,
			Run: hostOverlay,
		},
		{
			ID: "mount/host-missing", Title: "A folder of the machine that does not exist is refused, and nothing is made.",
			Profile: engine.Files, Requirements: []string{"REQ-LIFE-001"}, Needs: []string{"mount.host"}, Kinds: plugin, Cost: 1,
			Run: hostMissing,
		},
	}
}

// folder makes a folder of the machine with a file in it.
func folder(t *engine.T) string {
	dir, err := os.MkdirTemp("", "sandbar-mount")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "file"), []byte("original\n"), 0o666)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(dir, "file"), 0o666)
	}
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Broken("make a folder to mount: %v", err)
	}
	t.Cleanup(func(context.Context) { _ = os.RemoveAll(dir) })
	return dir
}

func hostAt(target, path string, mode providerv1.MountMode) func(*providerv1.CreateSandboxRequest) {
	return func(req *providerv1.CreateSandboxRequest) {
		req.Spec.Mounts = append(req.Spec.Mounts, &providerv1.Mount{Target: target, Source: &providerv1.Mount_HostPath{HostPath: path}, Mode: mode})
	}
}

func onHost(t *engine.T, path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read the machine's file: %v", err)
	}
	return string(content)
}

func hostModes(t *engine.T) {
	dir := folder(t)
	box := stage.Create(t, hostAt("/ro", dir, ro), hostAt("/rw", dir, rw))
	if out := box.Sh("cat /ro/file; echo no > /ro/file"); out.Exit.GetCode() == 0 || string(out.Stdout) != "original\n" {
		t.Errorf("through a read-only mount came %s with %s: want the file, and the write refused", stage.Excerpt(out.Stdout), stage.ExitText(out.Exit))
	}
	if got := onHost(t, filepath.Join(dir, "file")); got != "original\n" {
		t.Errorf("a write through a read-only mount reached the machine: %q", got)
	}
	box.Sh("echo through > /rw/file").Code(0)
	if got := onHost(t, filepath.Join(dir, "file")); got != "through\n" {
		t.Errorf("after a write through a mount of mode RW the machine has %q: want %q", got, "through\n")
	}
}

func hostOverlay(t *engine.T) {
	dir := folder(t)
	box := stage.Create(t, hostAt("/work", dir, overlay))
	box.Sh("cd /work; echo changed > file; echo new > new; mkdir d; cat file").Out("changed\n").Code(0)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || onHost(t, filepath.Join(dir, "file")) != "original\n" {
		t.Errorf("after writes to an overlay the machine's folder has %v, and the file is %q: want it as it was", list, onHost(t, filepath.Join(dir, "file")))
	}
	if t.Has("fs.diff") {
		got := changes(box.Diff("/work"))
		want := map[string]bool{"MODIFIED /work/file": true, "ADDED /work/new": true, "ADDED /work/d": true}
		for _, c := range got {
			if c != "MODIFIED /work" && !want[c] {
				t.Errorf("DiffFiles of the mount lists %q: want only what was changed", c)
			}
			delete(want, c)
		}
		for c := range want {
			t.Errorf("DiffFiles of the mount lacks %q: it gives %q", c, got)
		}
	}
}

func hostMissing(t *engine.T) {
	_, err := t.Client().CreateSandbox(t.Context(), with(t, hostAt("/work", filepath.Join(folder(t), "missing"), ro)))
	f := stage.Refused(t, "CreateSandbox with a folder that does not exist", err,
		providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	stage.NoEffect(t, "CreateSandbox", f)
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 0 {
		t.Errorf("the owner has %d sandboxes: want none", n)
	}
}
