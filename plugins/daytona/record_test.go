package daytona

import (
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRecordComesBack: what is given comes back from the labels as it was, although
// the vendor has changed the name.
func TestRecordComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digest := sha256.Sum256([]byte(rapid.String().Draw(t, "digest")))
		r := record{
			ID:      rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,127}`).Draw(t, "id"),
			Key:     rapid.StringMatching(`[A-Za-z0-9]{26}`).Draw(t, "key"),
			Owner:   rapid.StringN(1, 60, 255).Draw(t, "owner"),
			Digest:  digest[:],
			Labels:  rapid.MapOfN(rapid.StringMatching(`[a-z0-9A-Z._/-]{1,63}`), rapid.StringN(0, 60, 255), 1, 6).Draw(t, "labels"),
			Workdir: rapid.SampledFrom([]string{"", "/tmp", "/a b/ü"}).Draw(t, "workdir"),
		}
		got, err := recordOf(&api.Sandbox{Name: "DESTROYED_" + nameOf(r.Key) + "_1", Labels: r.labels()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Fatalf("record (- given, + got):\n%s", diff)
		}
	})
}

func TestRecordsOfOthers(t *testing.T) {
	ours := record{ID: "sbx_1", Key: "KEY", Owner: "brk_1"}
	for name, change := range map[string]func(map[string]string){
		"no labels":     func(l map[string]string) { clear(l) },
		"no id":         func(l map[string]string) { delete(l, labelID) },
		"another owner": func(l map[string]string) { l[labelOwner] = upstream.OwnerDigest("brk_2") },
		"no JSON":       func(l map[string]string) { l[labelRecord] = "{" },
		"no key":        func(l map[string]string) { l[labelRecord] = `{"o":"brk_1"}` },
	} {
		labels := ours.labels()
		change(labels)
		if r, err := recordOf(&api.Sandbox{Name: "a", Labels: labels}); err == nil {
			t.Errorf("%s: it is read as %+v", name, r)
		}
	}
}

// TestPresentStates: whatever the vendor says of a state, RUNNING is never a guess.
func TestPresentStates(t *testing.T) {
	const unknown, failed = providerv1.SandboxState_SANDBOX_STATE_UNKNOWN, providerv1.SandboxState_SANDBOX_STATE_FAILED
	for state, want := range map[string]providerv1.SandboxState{
		api.Creating: providerv1.SandboxState_SANDBOX_STATE_CREATING, api.PullingSnapshot: providerv1.SandboxState_SANDBOX_STATE_CREATING,
		api.Started: providerv1.SandboxState_SANDBOX_STATE_RUNNING, api.Destroying: providerv1.SandboxState_SANDBOX_STATE_DELETING,
		api.Stopped: failed, api.Failed: failed, api.BuildFailed: failed, api.Archived: failed,
		api.Paused: unknown, api.Resizing: unknown, api.Unknown: unknown, "": unknown, "invented": unknown,
	} {
		got, why := stateOf(&api.Sandbox{State: state, DesiredState: api.Started})
		if got != want || (why == "") != (want == providerv1.SandboxState_SANDBOX_STATE_RUNNING || want == providerv1.SandboxState_SANDBOX_STATE_CREATING) {
			t.Errorf("%q is %s, %q: want %s", state, got, why, want)
		}
	}
	if got, _ := stateOf(&api.Sandbox{State: api.Started, DesiredState: api.Destroyed}); got != providerv1.SandboxState_SANDBOX_STATE_DELETING {
		t.Errorf("one that is to be destroyed is %s", got)
	}
}

// TestToolboxElsewhere: the key does not go where it could be read on its way.
func TestToolboxElsewhere(t *testing.T) {
	d := New(Options{})
	defer d.Close()
	_, err := d.present(&api.Sandbox{ID: "a", State: api.Started, ToolboxProxyURL: "http://proxy.example.com/toolbox"}, record{ID: "sbx_1"})
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL) {
		t.Errorf("it is answered with %v: want UPSTREAM_PROTOCOL", err)
	}
}

func TestHandle(t *testing.T) {
	h := handle{ID: "a", Proxy: "https://p", Workdir: "/w"}
	if got, ok := readHandle(h.proto()); !ok || got != h {
		t.Errorf("it is read as %+v, %t", got, ok)
	}
	h.Workdir = string(make([]byte, maxHandle))
	if _, ok := readHandle(h.proto()); ok || len(h.proto().GetData()) > maxHandle {
		t.Error("one that is too long is not left to a search")
	}
	if _, ok := readHandle(&providerv1.Handle{Version: 9, Data: []byte(`{"i":"a","p":"b"}`)}); ok {
		t.Error("a version that there is not is read")
	}
}
