package exec

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// keys are the cases about exec ids.
func keys() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/idempotent", Title: "The same exec id with the same digest is one command, however often it is started.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-002"}, Cost: 5,
			Run: idempotent,
		},
		{
			ID: "exec/id-reused", Title: "An exec id with another digest is refused, and the command that has it is not touched.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-002"}, Cost: 5,
			Run: idReused,
		},
		{
			ID: "exec/unknown-id", Title: "A command that does not exist is not found, and neither is one in a sandbox that does not exist.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-001"}, Cost: 5,
			Run: unknownID,
		},
		{
			ID: "exec/other-sandbox", Title: "A command cannot be reached through another sandbox.",
			Profile: engine.Exec, Requirements: []string{"REQ-ERR-001", "REQ-EXEC-002"}, Cost: 10,
			Run: otherSandbox,
		},
	}
}

func idempotent(t *engine.T) {
	box := stage.Create(t)
	req := box.NewExec(stage.Script("echo ran >> /tmp/runs; sleep 0.5; echo out"))
	t.Step("start it eight times at once")
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			resp, err := box.Client().StartExec(t.Context(), req)
			if err != nil || resp.GetExec().GetExecId() != req.GetExecId() {
				t.Errorf("StartExec answered %q, %v: want the command %q", resp.GetExec().GetExecId(), err, req.GetExecId())
			}
		})
	}
	calls.Wait()
	if t.Failed() {
		return
	}
	box.Known(req).Wait().Code(0).Out("out\n")
	t.Step("start it again after its end")
	resp, err := box.Client().StartExec(t.Context(), req)
	stage.OK(t, "StartExec of a command that has ended", err)
	if e := resp.GetExec(); e.GetState() != providerv1.ExecState_EXEC_STATE_EXITED || code(e.GetExit()) != 0 {
		t.Errorf("StartExec of a command that has ended answered state %s, %s: want EXITED with exit code 0", state(e), stage.ExitText(e.GetExit()))
	}
	box.Sh("cat /tmp/runs").Code(0).Out("ran\n")
}

func idReused(t *engine.T) {
	box := stage.Create(t)
	first := box.Start(stage.Script("echo first; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo end"))
	other := box.NewExec(stage.Script("echo second >> /tmp/second"))
	other.ExecId = first.ID
	other.RequestDigest = provider.Digest(other)
	_, err := box.Client().StartExec(t.Context(), other)
	what := "StartExec with the id of another command"
	stage.NoEffect(t, what, stage.Refused(t, what, err, keyReused))
	box.Sh("echo > /tmp/go").Code(0)
	first.Wait().Code(0).Out("first\nend\n")
	t.Step("again, after its end")
	_, err = box.Client().StartExec(t.Context(), other)
	_ = stage.Refused(t, what+" that has ended", err, keyReused)
	box.Run("ls", "/tmp/second").Code(missingFile(box))
}

func unknownID(t *engine.T) {
	box := stage.Create(t)
	absent(t, box, stage.NewID("exe"), execNotFound)
	nowhere := *box
	nowhere.Ref = proto.CloneOf(box.Ref)
	nowhere.Ref.SandboxId, nowhere.Ref.Handle = stage.NewID("sbx"), nil
	absent(t, &nowhere, stage.NewID("exe"), sandboxNotFound)
	_, err := nowhere.Client().StartExec(t.Context(), nowhere.NewExec(stage.Argv("true")))
	_ = stage.Refused(t, "StartExec in a sandbox that does not exist", err, sandboxNotFound)
}

// absent checks that nothing can be done with a command.
func absent(t *engine.T, box *stage.Box, id string, reason providerv1.ErrorReason) {
	_, err := box.Client().GetExec(t.Context(), &providerv1.GetExecRequest{Sandbox: box.Ref, ExecId: id})
	_ = stage.Refused(t, "GetExec of a command that is not there", err, reason)
	_ = box.Named(id).TryAttach().Refused("AttachExec to a command that is not there", reason)
	if t.Has("exec.signal") {
		_, err := box.Client().SignalExec(t.Context(), &providerv1.SignalExecRequest{
			Sandbox: box.Ref, ExecId: id, Signal: providerv1.ExecSignal_EXEC_SIGNAL_KILL,
		})
		_ = stage.Refused(t, "SignalExec to a command that is not there", err, reason)
	}
}

func otherSandbox(t *engine.T) {
	mine, other := stage.Create(t), stage.Create(t)
	secret := mine.Start(stage.Script("echo secret; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo end"))
	absent(t, other, secret.ID, execNotFound)
	if t.Has("exec.list") {
		if n := len(list(t, other)); n != 0 {
			t.Errorf("the other sandbox lists %d commands: want none", n)
		}
	}
	t.Step("the same id in both")
	req := other.NewExec(stage.Script("echo public"))
	req.ExecId = secret.ID
	if _, err := other.Client().StartExec(t.Context(), req); err == nil {
		other.Known(req).Wait().Code(0).Out("public\n")
	} else {
		// A caller's ids are random: a provider may want them unlike everywhere.
		_ = stage.Refused(t, "StartExec with an id that another sandbox uses", err, keyReused)
	}
	mine.Sh("echo > /tmp/go").Code(0)
	secret.Wait().Code(0).Out("secret\nend\n")
}
