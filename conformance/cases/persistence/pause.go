package persistence

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// pauses are the cases about pausing that hold whatever it keeps.
func pauses() []engine.Case {
	needs := []string{"pause", "pause.disk"}
	return []engine.Case{
		{
			ID: "pause/keeps-disk", Title: "Files are there again after pause and resume, byte for byte, and with their modes.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-KEEP-001", "REQ-KEEP-002", "REQ-KEEP-003"}, Needs: needs, Cost: 10,
			Run: keepsDisk,
		},
		{
			ID: "pause/state-is-told", Title: "A paused sandbox is PAUSED in Get and in List, with what was kept, and RUNNING again after resume.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-KEEP-002", "REQ-LIST-003"}, Needs: needs, Cost: 10,
			Run: stateIsTold,
		},
		{
			ID: "pause/refuses-use", Title: "Calls that need the sandbox to run are refused while it is paused, and say its state.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-PAUSE-001"}, Needs: needs, Cost: 10,
			Run: refusesUse,
		},
		{
			ID: "pause/idempotent", Title: "Pausing what is paused and resuming what runs succeeds and changes nothing.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-PAUSE-002"}, Needs: needs, Cost: 10,
			Run: pauseIdempotent,
		},
		{
			ID: "pause/concurrent", Title: "Eight pauses at once all succeed, and the sandbox is paused.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-PAUSE-002", "REQ-PAUSE-004"}, Needs: needs, Cost: 10,
			Run: pauseConcurrent,
		},
		{
			ID: "pause/deleted-while-paused", Title: "A paused sandbox can be deleted.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-DEL-003"}, Needs: needs, Cost: 5,
			Run: deletedWhilePaused,
		},
		{
			ID: "pause/no-cpu", Title: "A paused sandbox uses no processor time.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-PAUSE-001"}, Needs: append([]string{"usage"}, needs...), Cost: 10,
			Run: noCPU,
		},
		{
			ID: "pause/survives-plugin", Title: "A sandbox that is paused survives kill -9 of the plugin: a new one resumes it.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-PAUSE-005", "REQ-REC-001"}, Needs: needs, Cost: 10,
			Kinds: []subject.Kind{subject.Binary}, Phase: engine.Apart,
			Run: survivesPlugin,
		},
		{
			ID: "pause/clock", Title: "After a pause the clock inside tells the time of the world.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-GUEST-004"}, Needs: needs, Cost: 10,
			Run: clockAfterPause,
		},
		{
			ID: "pause/no-downgrade", Title: "A pause that would keep less than asked is refused before any effect: the sandbox runs on.",
			Profile: engine.PauseDisk, Requirements: []string{"REQ-KEEP-001"}, Needs: needs, Denies: "pause.processes", Cost: 5,
			Run: pauseNoDowngrade,
		},
	}
}

// marked writes a file with a mode, and returns what says that it is there.
func marked(box *stage.Box) string {
	return box.Line(`mkdir -p /tmp/d && head -c 100000 /dev/urandom > /tmp/d/file && chmod 640 /tmp/d/file && ` + seen)
}

// seen prints the sum and the mode of the marked file.
const seen = `sha256sum < /tmp/d/file && ls -l /tmp/d/file | head -c 10`

func stillMarked(t *engine.T, box *stage.Box, mark string) {
	if got := box.Line(seen); got != mark {
		t.Errorf("the file is %q: want %q, as it was", got, mark)
	}
}

func keepsDisk(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	box.Pause(nil) // absent means disk
	box.Resume()
	stillMarked(t, box, mark)
}

func stateIsTold(t *engine.T) {
	box := stage.Create(t)
	kept := box.Pause(stage.Disk).GetKept()
	told := func(want providerv1.SandboxState) {
		listed := stage.ListAll(t, t.Client(), t.Owner(), 0)
		if len(listed) != 1 || listed[0].GetState() != want {
			t.Errorf("ListSandboxes tells %v: want one sandbox, %s", listed, stage.StateName(want))
		}
		if got := box.Get(); got.GetState() != want {
			t.Errorf("GetSandbox tells %s: want %s", stage.StateName(got.GetState()), stage.StateName(want))
		} else if want == providerv1.SandboxState_SANDBOX_STATE_PAUSED && stage.KeepsText(got.GetKept()) != stage.KeepsText(kept) {
			t.Errorf("GetSandbox tells that %s was kept: want %s, as PauseSandbox told", stage.KeepsText(got.GetKept()), stage.KeepsText(kept))
		}
	}
	told(providerv1.SandboxState_SANDBOX_STATE_PAUSED)
	box.Resume()
	told(providerv1.SandboxState_SANDBOX_STATE_RUNNING)
}

func refusesUse(t *engine.T) {
	box := stage.Create(t)
	box.Pause(stage.Disk)
	_, err := t.Client().StartExec(t.Context(), box.NewExec(stage.Argv("true")))
	box.NotRunning("StartExec", err)
	if t.Has("fs.read") {
		_, err := t.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: "/tmp"})
		box.NotRunning("StatFile", err)
	}
	if t.Has("port.list") {
		_, err := t.Client().ListPorts(t.Context(), &providerv1.ListPortsRequest{Sandbox: box.Ref})
		box.NotRunning("ListPorts", err)
	}
	box.Resume()
	box.Run("true").Code(0)
}

func pauseIdempotent(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	box.Resume() // it runs
	first := box.Pause(stage.Disk)
	second := box.Pause(stage.Disk)
	if a, b := stage.KeepsText(first.GetKept()), stage.KeepsText(second.GetKept()); a != b {
		t.Errorf("the second pause says that %s was kept: want %s, as the first said", b, a)
	}
	box.Resume()
	box.Resume()
	stillMarked(t, box, mark)
}

func pauseConcurrent(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	const many = 8
	errs := make(chan error, many)
	for range many {
		go func() {
			_, err := t.Client().PauseSandbox(t.Context(), &providerv1.PauseSandboxRequest{Sandbox: box.Ref, Minimum: stage.Disk})
			errs <- err
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Errorf("one of %d pauses at once: %s: want success", many, subject.Describe(err))
		}
	}
	stage.Eventually(t, 10*time.Second, "the sandbox to be paused", func(context.Context) bool {
		return box.Get().GetState() == providerv1.SandboxState_SANDBOX_STATE_PAUSED
	})
	box.Resume()
	stillMarked(t, box, mark)
}

func deletedWhilePaused(t *engine.T) {
	box := stage.Create(t)
	box.Pause(stage.Disk)
	box.Delete()
	gone(t, box)
}

func gone(t *engine.T, box *stage.Box) {
	_, err := box.Client().GetSandbox(t.Context(), box.ByRef())
	stage.Refused(t, "GetSandbox after it was deleted", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
}

func noCPU(t *engine.T) {
	box := stage.Create(t)
	box.Start(stage.Script("while :; do :; done"))
	box.Pause(stage.Disk)
	before := box.CPU()
	stage.Pause(t, 500*time.Millisecond)
	if after := box.CPU(); after != before {
		t.Errorf("a paused sandbox used %s of processor time in half a second: want none", after-before)
	}
}

func survivesPlugin(t *engine.T) {
	box := stage.Create(t)
	mark := marked(box)
	box.Pause(stage.Disk)
	t.Step("kill the plugin")
	if err := t.Instance().Process.Kill(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	if got := box.Get(); got.GetState() != providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		t.Fatalf("the new plugin says that the sandbox is %s: want PAUSED", stage.StateName(got.GetState()))
	}
	box.Resume()
	stillMarked(t, box, mark)
}

func clockAfterPause(t *engine.T) {
	box := stage.Create(t)
	box.Clock(t)
	box.Pause(stage.Disk)
	stage.Pause(t, 2500*time.Millisecond) // more than the tolerance
	box.Resume()
	box.Clock(t)
}

func pauseNoDowngrade(t *engine.T) {
	box := stage.Create(t)
	_, err := t.Client().PauseSandbox(t.Context(), &providerv1.PauseSandboxRequest{Sandbox: box.Ref, Minimum: stage.Processes})
	f := stage.Refused(t, "a pause that must keep processes", err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	stage.NoEffect(t, "the pause", f)
	if got := box.Get(); got.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after the refusal the sandbox is %s: want RUNNING, as it was", stage.StateName(got.GetState()))
	}
	box.Run("true").Code(0)
}
