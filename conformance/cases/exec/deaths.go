package exec

import (
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// deaths are the cases about ends that are not the command's doing.
func deaths() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/sandbox-deleted", Title: "A command whose sandbox is deleted ends with cause SANDBOX, and never with exit code 0.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-032", "REQ-EXEC-031"}, Cost: 10,
			Run: sandboxDeleted,
		},
		{
			ID: "exec/out-of-memory", Title: "A command that was killed for want of memory says so.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-032"}, Needs: []string{"compute.memory"}, Cost: 30, Budget: 2 * time.Minute,
			Run: outOfMemory,
		},
	}
}

func sandboxDeleted(t *engine.T) {
	box := stage.Create(t)
	a := box.Start(stage.Script("echo ready; sleep 600; echo after")).Attach()
	a.Until("ready\n")
	box.Delete()
	done, lost := a.End()
	switch {
	case done == nil && lost == nil:
		t.Errorf("the attachment ended with status OK, and neither Done nor a Fault")
	case done == nil:
		// The way to the command may die with the sandbox: that says nothing about it.
		stage.LostIsProper(t, "the attachment to a command whose sandbox was deleted", lost)
	case done.GetExit().GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX || code(done.GetExit()) == 0:
		t.Errorf("the command ended with %s: want cause SANDBOX, and not exit code 0", stage.ExitText(done.GetExit()))
	}
	t.Step("nothing more can be started")
	_, err := box.Client().StartExec(t.Context(), box.NewExec(stage.Argv("true")))
	_ = stage.Refused(t, "StartExec in a sandbox that was deleted", err, sandboxNotFound)
}

func outOfMemory(t *engine.T) {
	mib := stage.Number(t, "memory_mib", 256)
	box := stage.Create(t, func(r *providerv1.CreateSandboxRequest) {
		r.Spec.Resources = &providerv1.Resources{MemoryBytes: int64(mib) << 20}
	})
	// It keeps the last line, which never ends, and is silent as long as the machine takes to give it the memory.
	taking := box.Start(stage.Script("echo ready; exec tail -n 1 /dev/zero")).Attach()
	taking.Silence(t.Slowly(90 * time.Second))
	out := taking.Wait()
	if !out.Exit.GetOutOfMemory() || out.Exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX || code(out.Exit) == 0 {
		t.Errorf("a command that takes all memory ended with %s: want out_of_memory with cause SANDBOX", stage.ExitText(out.Exit))
	}
	t.Step("one that does not is not said to")
	if small := box.Sh("echo small").Code(0); small.Exit.GetOutOfMemory() {
		t.Errorf("a command that took hardly any memory ended with %s", stage.ExitText(small.Exit))
	}
}
