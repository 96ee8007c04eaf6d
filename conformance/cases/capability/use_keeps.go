package capability

import (
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// keepUses are the uses of what survives.
func keepUses() map[string]use {
	out := map[string]use{}
	for area, through := range map[string]func(*engine.T, *stage.Box, *providerv1.Keeps) *stage.Box{
		"pause": pauseAndResume, "snapshot": snapshotAndRestore, "fork": forkOne,
	} {
		out[area] = use{run: func(t *engine.T) {
			box := stage.Create(t)
			through(t, box, stage.Values(t, box).Least(area)).Run("true").Code(0)
		}}
		out[area+".disk"] = use{run: func(t *engine.T) {
			box := stage.Create(t)
			write(box, file, "kept")
			through(t, box, &providerv1.Keeps{Disk: true}).Run("cat", file).Code(0).Out("kept")
		}}
		out[area+".memory"] = use{run: func(t *engine.T) { goesOn(t, through, &providerv1.Keeps{Memory: true}) }}
		out[area+".processes"] = use{run: func(t *engine.T) { goesOn(t, through, &providerv1.Keeps{Processes: true}) }}
	}
	return out
}

// goesOn runs a shell that writes down, over and over, what only it
// knows, and sees that it does so on the other side.
func goesOn(t *engine.T, through func(*engine.T, *stage.Box, *providerv1.Keeps) *stage.Box, minimum *providerv1.Keeps) {
	box := stage.Create(t)
	word := stage.NewID("memory")
	box.Start(stage.Script("word=" + word + "; while :; do echo \"$word\" > " + file + "; sleep 0.1; done"))
	written := func(b *stage.Box) bool {
		out := b.Run("cat", file)
		return out.Exit.GetCode() == 0 && strings.TrimSpace(string(out.Stdout)) == word
	}
	await(t, box, written)
	other := through(t, box, minimum)
	other.Run("rm", "-f", file).Code(0)
	await(t, other, written)
}

func await(t *engine.T, box *stage.Box, is func(*stage.Box) bool) {
	const often = 50 * time.Millisecond
	for start := time.Now(); !is(box); stage.Pause(t, often) {
		if time.Since(start) > t.Slowly(patience) {
			t.Fatalf("the process has not written %s for %s: want it to go on", file, t.Slowly(patience))
		}
	}
}

func pauseAndResume(t *engine.T, box *stage.Box, minimum *providerv1.Keeps) *stage.Box {
	t.Step("pause and resume")
	resp, err := box.Client().PauseSandbox(t.Context(), &providerv1.PauseSandboxRequest{Sandbox: box.Ref, Minimum: minimum})
	stage.OK(t, "PauseSandbox", err)
	enough(t, "PauseSandbox", resp.GetSandbox().GetKept(), minimum)
	resumed, err := box.Client().ResumeSandbox(t.Context(), &providerv1.ResumeSandboxRequest{Sandbox: box.Ref})
	stage.OK(t, "ResumeSandbox", err)
	box.Ref.Handle = resumed.GetSandbox().GetHandle()
	for state := resumed.GetSandbox().GetState(); state == providerv1.SandboxState_SANDBOX_STATE_RESUMING; state = box.Get().GetState() {
		stage.Pause(t, 20*time.Millisecond)
	}
	return box
}

func takeSnapshot(t *engine.T, box *stage.Box, minimum *providerv1.Keeps) *providerv1.Snapshot {
	t.Step("take a snapshot")
	resp, err := box.Client().CreateSnapshot(t.Context(), &providerv1.CreateSnapshotRequest{
		Sandbox: box.Ref, Operation: stage.NewOperation(), SnapshotId: stage.NewID("snp"), Minimum: minimum,
	})
	stage.OK(t, "CreateSnapshot", err)
	enough(t, "CreateSnapshot", resp.GetSnapshot().GetKept(), minimum)
	return resp.GetSnapshot()
}

func snapshotAndRestore(t *engine.T, box *stage.Box, minimum *providerv1.Keeps) *stage.Box {
	s := takeSnapshot(t, box, minimum)
	t.Step("restore it")
	resp, err := t.Client().RestoreSnapshot(t.Context(), &providerv1.RestoreSnapshotRequest{
		Operation: stage.NewOperation(), Identity: stage.NewIdentity(t), SnapshotId: s.GetSnapshotId(), Handle: s.GetHandle(), Minimum: minimum,
	})
	stage.OK(t, "RestoreSnapshot", err)
	restored := stage.Found(t, t.Client(), resp.GetSandbox())
	restored.AwaitRunning()
	return restored
}

func forkOne(t *engine.T, box *stage.Box, minimum *providerv1.Keeps) *stage.Box {
	t.Step("fork")
	resp, err := box.Client().ForkSandbox(t.Context(), &providerv1.ForkSandboxRequest{
		Sandbox: box.Ref, Operation: stage.NewOperation(), Identities: []*providerv1.Identity{stage.NewIdentity(t)}, Minimum: minimum,
	})
	stage.OK(t, "ForkSandbox", err)
	if n := len(resp.GetSandboxes()); n != 1 {
		t.Fatalf("ForkSandbox answered %d copies: want 1", n)
	}
	fork := stage.Found(t, t.Client(), resp.GetSandboxes()[0])
	fork.AwaitRunning()
	return fork
}

func enough(t *engine.T, what string, kept, minimum *providerv1.Keeps) {
	if minimum.GetDisk() && !kept.GetDisk() || minimum.GetMemory() && !kept.GetMemory() || minimum.GetProcesses() && !kept.GetProcesses() {
		t.Errorf("%s kept {%v}: want at least {%v}", what, kept, minimum)
	}
}
