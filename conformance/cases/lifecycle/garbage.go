package lifecycle

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

func garbage() []engine.Case {
	return []engine.Case{{
		ID: "gc/no-leaks-after-run", Title: "When all has been deleted, nothing of this run is left: at the vendor, and on the machine.",
		Profile: engine.Core, Requirements: []string{"REQ-GC-001"}, Kinds: own, Phase: engine.Last, Budget: time.Minute, Cost: 5,
		Run: noLeaks,
	}}
}

func noLeaks(t *engine.T) {
	makeAndDelete(t)
	owners := t.Ledger().Owners()
	t.Step("look for what %d owners have left", len(owners))
	start := time.Now()
	for _, owner := range owners {
		left := leftAtVendor(t, owner)
		for left != "" && time.Since(start) < settling {
			stage.Pause(t, 100*time.Millisecond)
			left = leftAtVendor(t, owner)
		}
		if left != "" {
			t.Errorf("%s has %s: want nothing", owner, left)
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	made := map[string]bool{}
	for _, id := range t.Ledger().Sandboxes() {
		made[id] = true
	}
	t.Step("look for what %d sandboxes have left on the machine", len(made))
	var left []string
	for start = time.Now(); ; stage.Pause(t, 100*time.Millisecond) {
		if left = leftOnMachine(made, t.Instance().StateDir); len(left) == 0 || time.Since(start) > settling {
			break
		}
	}
	for _, what := range left {
		t.Errorf("%s is left", what)
	}
}

// makeAndDelete leaves traces of everything that there is to be removed.
func makeAndDelete(t *engine.T) {
	box := stage.Create(t)
	box.Start(stage.Argv("sleep", "600"))
	if values := stage.Values(t, box); t.Has("snapshot") && values.Least("snapshot") != nil {
		resp, err := box.Client().CreateSnapshot(t.Context(), &providerv1.CreateSnapshotRequest{
			Sandbox: box.Ref, Operation: stage.NewOperation(), SnapshotId: stage.NewID("snp"), Minimum: values.Least("snapshot"),
		})
		stage.OK(t, "CreateSnapshot", err)
		_, err = box.Client().DeleteSnapshot(t.Context(), &providerv1.DeleteSnapshotRequest{
			SnapshotId: resp.GetSnapshot().GetSnapshotId(), Handle: resp.GetSnapshot().GetHandle(),
		})
		stage.OK(t, "DeleteSnapshot", err)
	}
	if t.Has("volume") {
		_, err := t.Client().CreateVolume(t.Context(), &providerv1.CreateVolumeRequest{Owner: t.Owner(), Name: "suite-leak"})
		stage.OK(t, "CreateVolume", err)
		_, err = t.Client().DeleteVolume(t.Context(), &providerv1.DeleteVolumeRequest{Owner: t.Owner(), Name: "suite-leak"})
		stage.OK(t, "DeleteVolume", err)
	}
	box.Delete()
}

// leftAtVendor says what an owner still has, or "".
func leftAtVendor(t *engine.T, owner string) string {
	_, err := t.Client().ListSandboxes(t.Context(), &providerv1.ListSandboxesRequest{Owner: owner})
	if err != nil && fault.From(err).Reason == providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID {
		return "" // some case tried it, and nobody by that name can own anything
	}
	var left []string
	for _, id := range ids(stage.ListAll(t, t.Client(), owner, 0)) {
		left = append(left, "sandbox "+id)
	}
	if t.Has("snapshot") {
		resp, err := t.Client().ListSnapshots(t.Context(), &providerv1.ListSnapshotsRequest{Owner: owner})
		stage.OK(t, "ListSnapshots", err)
		for _, s := range resp.GetSnapshots() {
			left = append(left, "snapshot "+s.GetSnapshotId())
		}
	}
	if t.Has("volume") {
		resp, err := t.Client().ListVolumes(t.Context(), &providerv1.ListVolumesRequest{Owner: owner})
		stage.OK(t, "ListVolumes", err)
		for _, v := range resp.GetVolumes() {
			left = append(left, "volume "+v.GetName())
		}
	}
	return strings.Join(left, ", ")
}

var sandboxID = pattern.Lazy(`sbx_[a-z0-9]{26}`)

// leftOnMachine looks for processes, what they hold, mounts, sockets and folders
// that name a sandbox which was deleted. What a provider must remember of keys it
// keeps in files, and they are small.
func leftOnMachine(made map[string]bool, state string) []string {
	var left []string
	add := func(what string, text []byte) {
		for _, id := range sandboxID().FindAll(text, -1) {
			if made[string(id)] {
				left = append(left, fmt.Sprintf("%s with %s", what, id))
				return
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo") // not there: nothing is mounted that could be seen
	for line := range bytes.Lines(mounts) {
		add("a mount", line)
	}
	sockets, _ := os.ReadFile("/proc/net/unix")
	for line := range bytes.Lines(sockets) {
		add("a socket", line)
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		if pid, err := strconv.Atoi(p.Name()); err == nil && pid != os.Getpid() {
			inProcess(pid, add)
		}
	}
	if state != "" {
		inFolder(state, add)
	}
	slices.Sort(left)
	return slices.Compact(left)
}

// inProcess looks at one process. Those that end meanwhile, or are not ours to
// look at, have nothing to show.
func inProcess(pid int, add func(string, []byte)) {
	dir := "/proc/" + strconv.Itoa(pid)
	what := "process " + strconv.Itoa(pid)
	for _, name := range []string{"cmdline", "environ"} {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		add(what, text)
	}
	for _, name := range []string{"cwd", "root", "exe"} {
		to, _ := os.Readlink(filepath.Join(dir, name))
		add(what+" in a folder", []byte(to))
	}
	files, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, f := range files {
		to, _ := os.Readlink(filepath.Join(dir, "fd", f.Name()))
		add(what+" with an open file", []byte(to))
	}
}

// inFolder looks for what is more than a note.
func inFolder(state string, add func(string, []byte)) {
	const note = 4 << 10
	_ = filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error { // what cannot be read is gone, or not the plugin's
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		info, err := d.Info()
		if err == nil && (d.IsDir() || !info.Mode().IsRegular() || info.Size() > note) {
			add(path, []byte(path))
		}
		return nil
	})
}
