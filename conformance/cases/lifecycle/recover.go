package lifecycle

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func recovery() []engine.Case {
	return []engine.Case{
		{
			ID: "recover/three-valued", Title: "Recover answers for each handle, in order: recovered with its state, proven gone, or unknown and why.",
			Profile: engine.Core, Requirements: []string{"REQ-REC-002"}, Kinds: own, Cost: 10,
			Run: threeValued,
		},
		{
			ID: "recover/old-handles", Title: "Every handle that a sandbox ever had still leads to it, in the plugin that follows, too.",
			Profile: engine.Core, Requirements: []string{"REQ-REC-003", "REQ-REC-001"}, Kinds: []subject.Kind{subject.Binary}, Phase: engine.Apart, Cost: 10,
			Run: oldHandles,
		},
	}
}

func threeValued(t *engine.T) {
	alive, deleted, second := stage.Create(t), stage.Create(t), stage.Create(t)
	deleted.Delete()
	never := &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")}
	plain := &providerv1.SandboxRef{SandboxId: second.ID()}
	refs := []*providerv1.SandboxRef{never, alive.Ref, deleted.Ref, plain}
	resp, err := t.Client().Recover(t.Context(), &providerv1.RecoverRequest{Sandboxes: refs})
	stage.OK(t, "Recover", err)
	if len(resp.GetRecoveries()) != len(refs) {
		t.Fatalf("Recover answered %d of %d", len(resp.GetRecoveries()), len(refs))
	}
	want := []providerv1.RecoveryOutcome{
		providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE, providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED,
		providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE, providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED,
	}
	for i, r := range resp.GetRecoveries() {
		if r.GetSandboxId() != refs[i].GetSandboxId() {
			t.Errorf("answer %d is about %s: want %s, in the order of the request", i, r.GetSandboxId(), refs[i].GetSandboxId())
		}
		if r.GetOutcome() != want[i] {
			t.Errorf("answer %d, about %s, is %s (%s): want %s", i, r.GetSandboxId(), r.GetOutcome(), r.GetCause().GetMessage(), want[i])
		}
		if r.GetOutcome() == providerv1.RecoveryOutcome_RECOVERY_OUTCOME_UNKNOWN && r.GetCause() == nil {
			t.Errorf("answer %d is UNKNOWN without a cause", i)
		}
		if r.GetOutcome() == providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED {
			recovered(t, r)
		}
	}
}

// recovered checks what an answer says of a sandbox that is there.
func recovered(t *engine.T, r *providerv1.Recovery) {
	sb := r.GetSandbox()
	if sb.GetIdentity().GetSandboxId() != r.GetSandboxId() || sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("the answer about %s has sandbox %q, which is %s: want that one, RUNNING",
			r.GetSandboxId(), sb.GetIdentity().GetSandboxId(), stage.StateName(sb.GetState()))
		return
	}
	stage.Found(t, t.Client(), sb).Run("true").Code(0)
}

func oldHandles(t *engine.T) {
	box := stage.Create(t)
	handles := []*providerv1.Handle{box.Ref.GetHandle(), box.Get().GetHandle()}
	if t.Has("pause") {
		pause(t, box)
		handles = append(handles, box.Get().GetHandle())
		resp, err := box.Client().ResumeSandbox(t.Context(), &providerv1.ResumeSandboxRequest{Sandbox: box.Ref})
		stage.OK(t, "ResumeSandbox", err)
		handles = append(handles, resp.GetSandbox().GetHandle())
		await(t, box, providerv1.SandboxState_SANDBOX_STATE_RUNNING)
	}
	for _, when := range []string{"before", "after"} {
		if when == "after" {
			t.Step("kill the plugin")
			if err := t.Instance().Process.Kill(t.Context()); err != nil {
				t.Fatalf("%v", err)
			}
		}
		for i, h := range handles {
			box.Ref = &providerv1.SandboxRef{SandboxId: box.ID(), Handle: h}
			t.Step("handle %d, %s the plugin's death", i, when)
			if _, err := box.Client().GetSandbox(t.Context(), box.ByRef()); err != nil {
				t.Errorf("with handle %d of %d, %s the plugin's death, GetSandbox answers %s: want the sandbox",
					i+1, len(handles), when, fault.From(err).Message)
				continue
			}
			box.Run("true").Code(0)
		}
	}
}
