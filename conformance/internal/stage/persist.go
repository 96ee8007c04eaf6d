package stage

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// What survives, by level: each includes the ones before it.
var (
	Disk      = &providerv1.Keeps{Disk: true}
	Memory    = &providerv1.Keeps{Disk: true, Memory: true}
	Processes = &providerv1.Keeps{Disk: true, Memory: true, Processes: true}
)

// KeepsText names what is kept.
func KeepsText(k *providerv1.Keeps) string {
	var words []string
	for _, w := range []struct {
		word string
		kept bool
	}{{"disk", k.GetDisk()}, {"memory", k.GetMemory()}, {"processes", k.GetProcesses()}} {
		if w.kept {
			words = append(words, w.word)
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// atLeast checks that what was kept is what was asked for, or more.
func atLeast(t *engine.T, what string, kept, minimum *providerv1.Keeps) {
	if minimum.GetDisk() && !kept.GetDisk() || minimum.GetMemory() && !kept.GetMemory() || minimum.GetProcesses() && !kept.GetProcesses() {
		t.Errorf("%s kept %s: want at least %s", what, KeepsText(kept), KeepsText(minimum))
	}
}

// Pause pauses the sandbox, keeping at least minimum; nil leaves it to the
// contract's default.
func (b *Box) Pause(minimum *providerv1.Keeps) *providerv1.Sandbox {
	b.t.Step("pause, keeping %s", KeepsText(minimum))
	start := time.Now()
	resp, err := b.client.PauseSandbox(b.t.Context(), &providerv1.PauseSandboxRequest{Sandbox: b.Ref, Minimum: minimum})
	OK(b.t, "PauseSandbox", err)
	b.t.Measure("pause", time.Since(start))
	sb := b.settled(resp.GetSandbox(), providerv1.SandboxState_SANDBOX_STATE_PAUSING, providerv1.SandboxState_SANDBOX_STATE_PAUSED)
	if minimum == nil {
		minimum = Disk
	}
	atLeast(b.t, "the pause", sb.GetKept(), minimum)
	return sb
}

// Resume resumes it.
func (b *Box) Resume() *providerv1.Sandbox {
	b.t.Step("resume")
	start := time.Now()
	resp, err := b.client.ResumeSandbox(b.t.Context(), &providerv1.ResumeSandboxRequest{Sandbox: b.Ref})
	OK(b.t, "ResumeSandbox", err)
	b.t.Measure("resume", time.Since(start))
	return b.settled(resp.GetSandbox(), providerv1.SandboxState_SANDBOX_STATE_RESUMING, providerv1.SandboxState_SANDBOX_STATE_RUNNING)
}

// settled waits while a state is passing, and checks the one that follows.
func (b *Box) settled(sb *providerv1.Sandbox, passing, want providerv1.SandboxState) *providerv1.Sandbox {
	for sb.GetState() == passing {
		Pause(b.t, poll)
		sb = b.Get()
	}
	if sb.GetState() != want {
		b.t.Fatalf("the sandbox is %s (%s): want %s", StateName(sb.GetState()), sb.GetStatusReason(), StateName(want))
	}
	if sb.GetHandle() != nil {
		b.Ref.Handle = sb.GetHandle()
	}
	return sb
}

// NewSnapshot returns a request that takes a snapshot.
func (b *Box) NewSnapshot(minimum *providerv1.Keeps) *providerv1.CreateSnapshotRequest {
	return &providerv1.CreateSnapshotRequest{Sandbox: b.Ref, Operation: NewOperation(), SnapshotId: NewID("snp"), Minimum: minimum}
}

// Snapshot takes a snapshot.
func (b *Box) Snapshot(minimum *providerv1.Keeps) *providerv1.Snapshot {
	b.t.Step("take a snapshot, keeping %s", KeepsText(minimum))
	start := time.Now()
	resp, err := b.client.CreateSnapshot(b.t.Context(), b.NewSnapshot(minimum))
	OK(b.t, "CreateSnapshot", err)
	b.t.Measure("snapshot", time.Since(start))
	atLeast(b.t, "the snapshot", resp.GetSnapshot().GetKept(), minimum)
	return resp.GetSnapshot()
}

// NewRestore returns a request that makes a sandbox from a snapshot.
func NewRestore(t *engine.T, snap *providerv1.Snapshot, minimum *providerv1.Keeps) *providerv1.RestoreSnapshotRequest {
	req := &providerv1.RestoreSnapshotRequest{
		Operation: NewOperation(), Identity: NewIdentity(t), SnapshotId: snap.GetSnapshotId(), Handle: snap.GetHandle(), Minimum: minimum,
	}
	if t.Has("lifetime.native") {
		req.Lifetime = durationpb.New(insurance)
	}
	return req
}

// Restore makes a sandbox from a snapshot.
func Restore(t *engine.T, snap *providerv1.Snapshot, minimum *providerv1.Keeps) *Box {
	t.Step("restore the snapshot, with %s", KeepsText(minimum))
	start := time.Now()
	resp, err := t.Client().RestoreSnapshot(t.Context(), NewRestore(t, snap, minimum))
	OK(t, "RestoreSnapshot", err)
	b := Found(t, t.Client(), resp.GetSandbox())
	b.AwaitRunning()
	t.Measure("restore", time.Since(start))
	return b
}

// NewFork returns a request that makes copies.
func (b *Box) NewFork(count int, minimum *providerv1.Keeps) *providerv1.ForkSandboxRequest {
	req := &providerv1.ForkSandboxRequest{Sandbox: b.Ref, Operation: NewOperation(), Minimum: minimum}
	for range count {
		req.Identities = append(req.Identities, NewIdentity(b.t))
	}
	return req
}

// Fork makes copies of the sandbox.
func (b *Box) Fork(count int, minimum *providerv1.Keeps) []*Box {
	b.t.Step("fork into %d, with %s", count, KeepsText(minimum))
	req := b.NewFork(count, minimum)
	start := time.Now()
	resp, err := b.client.ForkSandbox(b.t.Context(), req)
	OK(b.t, "ForkSandbox", err)
	b.t.Measure("fork", time.Since(start))
	return b.Copies(req, resp)
}

// Copies checks the answer to a fork, and waits for the copies to run.
func (b *Box) Copies(req *providerv1.ForkSandboxRequest, resp *providerv1.ForkSandboxResponse) []*Box {
	if got, want := len(resp.GetSandboxes()), len(req.GetIdentities()); got != want {
		b.t.Fatalf("ForkSandbox answered %d sandboxes: want %d", got, want)
	}
	var out []*Box
	for i, sb := range resp.GetSandboxes() {
		if got, want := sb.GetIdentity().GetSandboxId(), req.GetIdentities()[i].GetSandboxId(); got != want {
			b.t.Fatalf("copy %d is %q: want %q, in the order of identities", i, got, want)
		}
		box := Found(b.t, b.client, sb)
		box.AwaitRunning()
		out = append(out, box)
	}
	return out
}

// NotRunning checks that a call was refused because the sandbox does not run.
func (b *Box) NotRunning(what string, err error) {
	f := Refused(b.t, what+" of a paused sandbox", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING)
	if f.Metadata["state"] == "" {
		b.t.Errorf("%s: %s: want metadata[state]", what, subject.Describe(err))
	}
	NoEffect(b.t, what, f)
}
