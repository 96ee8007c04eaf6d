package transfer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/transfer"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The sandbox that is moved.
const (
	source = "sbx_1"
	name   = "web"
)

// tree is what every source has.
func tree() map[string]string {
	return map[string]string{
		"/w": "/", "/w/a": "1", "/w/big": strings.Repeat("0123456789", 7_000), "/w/d": "/", "/w/d/l": "-> ../../etc/passwd",
		"/x": "/", "/x/d": "/", "/x/d/b": "2", "/etc/hosts": "not named",
	}
}

var named = []string{"/w", "/x/d"}

// carried is what of it comes along.
func carried() map[string]string {
	out := tree()
	delete(out, "/etc/hosts")
	delete(out, "/x")
	return out
}

func (w *world) move(m *mortal, sb *brokerv1.Sandbox) *transfer.Move {
	out := &transfer.Move{
		Source:    transfer.Source{Files: w.client, Sandbox: sb, Paths: named},
		Sandboxes: w,
		Create:    &brokerv1.CreateSandboxRequest{Provider: "east", Spec: &providerv1.SandboxSpec{}},
	}
	if m != nil {
		out.Files, out.Sandboxes = mortalFiles{m}, m
	}
	return out
}

func TestMove(t *testing.T) {
	w := newWorld(t)
	sb := w.add(source, tree())
	sum := 0
	m := w.move(nil, sb)
	m.Said = func(n int) { sum += n }
	moved, err := m.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]map[string]string{moved.Sandbox.GetSandboxId(): carried()}, w.live()); diff != "" {
		t.Errorf("what lives: %s", diff)
	}
	if !moved.Ended || moved.Bytes != 70_002 || sum != 70_002 || moved.Files != 3 || moved.Folders != 3 || moved.Links != 1 {
		t.Errorf("it says %+v after %d bytes", moved.Statement, sum)
	}
	var what []string
	for _, l := range moved.Left {
		what = append(what, l.What)
	}
	if diff := cmp.Diff([]string{"memory", "processes", "attributes", "elsewhere"}, what); diff != "" {
		t.Error(diff)
	}
	if moved.Sandbox.GetLabels()[transfer.MovedFrom] != source {
		t.Errorf("labels are %v", moved.Sandbox.GetLabels())
	}
	if moved.Sandbox.GetName() != name || w.named(name) != moved.Sandbox.GetSandboxId() {
		t.Errorf("it says that its name is %q, and %s is %s", moved.Sandbox.GetName(), name, w.named(name))
	}
}

func TestKeepSource(t *testing.T) {
	w := newWorld(t)
	sb := w.add(source, tree())
	m := w.move(nil, sb)
	m.KeepSource = true
	moved, err := m.Run(t.Context())
	if err != nil || moved.Ended || len(w.live()) != 2 {
		t.Fatalf("%+v, %v; %d live", moved, err, len(w.live()))
	}
	// A copy that somebody may use is never removed, and no second one is made.
	_, err = m.Run(t.Context())
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS) || len(w.live()) != 2 {
		t.Errorf("again: %v; %d live", err, len(w.live()))
	}
	if w.named(name) != source {
		t.Errorf("%s is %s, want the source", name, w.named(name))
	}
	// The source can still be moved.
	if _, err := w.move(nil, sb).Run(t.Context()); err != nil || len(w.live()) != 2 || w.live()[source] != nil {
		t.Errorf("moved after that: %v, %d live", err, len(w.live()))
	}
}

// TestChosenName: who is given a name of its own leaves the source's to its end.
func TestChosenName(t *testing.T) {
	w := newWorld(t)
	m := w.move(nil, w.add(source, tree()))
	m.Create.Name = "two"
	moved, err := m.Run(t.Context())
	if err != nil || moved.Sandbox.GetName() != "two" || w.named("two") != moved.Sandbox.GetSandboxId() || w.named(name) != "" {
		t.Errorf("moved %v, %v; two is %s, %s is %s", moved, err, w.named("two"), name, w.named(name))
	}
}

// TestFailureLeavesTheSource: whatever is wrong, the source goes on and nothing else
// is left.
func TestFailureLeavesTheSource(t *testing.T) {
	for name, c := range map[string]struct {
		harm   func(w *world, m *transfer.Move)
		reason providerv1.ErrorReason
		says   string
	}{
		"a path is missing": {func(_ *world, m *transfer.Move) { m.Paths = []string{"/w", "/nowhere"} }, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "/nowhere"},
		"a path is relative": {
			func(_ *world, m *transfer.Move) { m.Paths = []string{"w"} }, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, "absolute",
		},
		"the root":            {func(_ *world, m *transfer.Move) { m.Paths = []string{"/"} }, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, "root"},
		"the disk is full":    {func(w *world, _ *transfer.Move) { w.cut = true }, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "full"},
		"the provider forgot": {func(w *world, _ *transfer.Move) { w.half = true }, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "missing"},
		"the source goes on writing": {func(w *world, _ *transfer.Move) {
			w.onDownload = func(id string) {
				if b := w.boxes[id]; id == source {
					b.files["/w/a"] += "x"
				}
			}
		}, providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE, `"/w/a" has other content`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := w.move(nil, w.add(source, tree()))
			c.harm(w, m)
			_, err := m.Run(t.Context())
			if !fault.Has(err, c.reason) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v about %q", err, c.reason, c.says)
			}
			if live := w.live(); len(live) != 1 || live[source] == nil {
				t.Errorf("%d live, want the source alone", len(live))
			}
		})
	}
}

// TestSourceThatVanishesLeavesTheTarget: the target is then all there is.
func TestSourceThatVanishesLeavesTheTarget(t *testing.T) {
	w := newWorld(t)
	m := w.move(nil, w.add(source, tree()))
	w.onDownload = func(id string) {
		if id != source {
			delete(w.boxes, source)
		}
	}
	_, err := m.Run(t.Context())
	var failed *transfer.NotMovedError
	if !errors.As(err, &failed) || !strings.Contains(failed.Note, "was kept") || len(w.live()) != 1 {
		t.Errorf("got %v; %d live", err, len(w.live()))
	}
}

// TestChanges carries what a provider says has changed.
func TestChanges(t *testing.T) {
	const (
		file   = providerv1.FileType_FILE_TYPE_REGULAR
		folder = providerv1.FileType_FILE_TYPE_DIRECTORY
		added  = providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED
		other  = providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED
	)
	change := func(p string, k providerv1.FileChangeKind, typ providerv1.FileType) *providerv1.FileChange {
		return &providerv1.FileChange{Path: p, Kind: k, Info: &providerv1.FileInfo{Path: p, Type: typ}}
	}
	w := newWorld(t)
	sb := w.add(source, map[string]string{
		"/new": "/", "/new/f": "1", "/new/p": "|", "/etc": "/", "/etc/hosts": "2", "/usr": "/", "/usr/hosts": "3", "/m": "/", "/m/own": "4", "/m/vol": "/", "/m/vol/x": "not ours",
	})
	sb.Spec = &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{Target: "/m/vol"}}}
	w.boxes[source].diff = []*providerv1.FileChange{
		change("/etc/hosts", other, file),
		{Path: "/etc/motd", Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED},
		change("/m", added, folder),
		change("/m/own", added, file),
		change("/new", added, folder),
		change("/new/f", added, file),
		change("/new/p", added, providerv1.FileType_FILE_TYPE_OTHER),
		change("/odd\uFFFD", added, file),
		change("/run/p", added, providerv1.FileType_FILE_TYPE_OTHER),
		change("/tmp", other, folder),
		change("/usr/hosts", added, file),
	}
	m := w.move(nil, sb)
	m.Paths = nil
	moved, err := m.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/new": "/", "/new/f": "1", "/etc/hosts": "2", "/usr/hosts": "3", "/m/own": "4"}
	if diff := cmp.Diff(want, w.live()[moved.Sandbox.GetSandboxId()]); diff != "" {
		t.Error(diff)
	}
	left := map[string][]string{}
	for _, l := range moved.Left {
		left[l.What] = append(left[l.What], l.Names...)
	}
	for what, names := range map[string][]string{
		"deleted": {"/etc/motd"}, "folders": {"/m", "/tmp"}, "special": {"/run/p", "/new/p"}, "names": {"/odd\uFFFD"},
	} {
		if diff := cmp.Diff(names, left[what]); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if !moved.Changes || !cmp.Equal(moved.Paths, []string{"/etc/hosts", "/m/own", "/new", "/usr/hosts"}) {
		t.Errorf("paths are %q", moved.Paths)
	}
}
