package exec

import (
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// signals are the cases about signals that the caller sends.
func signals() []engine.Case {
	needs := []string{"exec.signal"}
	return []engine.Case{
		{
			ID: "exec/signal-handled", Title: "A script that handles signals gets the ones that were sent, and ends as it wants to.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035", "REQ-EXEC-032"}, Needs: needs, Cost: 10,
			Run: signalHandled,
		},
		{
			ID: "exec/signal-default", Title: "A signal that is not handled ends the command, by its name, as the caller's doing.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035", "REQ-EXEC-030", "REQ-EXEC-032"}, Needs: needs, Cost: 10,
			Run: signalDefault,
		},
		{
			ID: "exec/signal-group", Title: "A signal reaches the whole process group.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035"}, Needs: needs, Cost: 10,
			Run: signalGroup,
		},
		{
			ID: "exec/signal-stop", Title: "SIGSTOP halts a command, and SIGCONT lets it go on.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035"}, Needs: needs, Cost: 10,
			Run: signalStop,
		},
		{
			ID: "exec/signal-after-end", Title: "A signal to a command that has ended is a success without effect.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035"}, Needs: needs, Cost: 5,
			Run: signalAfterEnd,
		},
		{
			ID: "attach/signal", Title: "A signal can be sent through an attachment.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-035"}, Needs: needs, Cost: 5,
			Run: signalFrame,
		},
	}
}

// handled are signals whose arrival a script can tell.
var handled = []providerv1.ExecSignal{
	providerv1.ExecSignal_EXEC_SIGNAL_HUP, providerv1.ExecSignal_EXEC_SIGNAL_INT, providerv1.ExecSignal_EXEC_SIGNAL_QUIT,
	providerv1.ExecSignal_EXEC_SIGNAL_USR1, providerv1.ExecSignal_EXEC_SIGNAL_USR2, providerv1.ExecSignal_EXEC_SIGNAL_ALRM,
	providerv1.ExecSignal_EXEC_SIGNAL_PIPE, providerv1.ExecSignal_EXEC_SIGNAL_WINCH,
}

func short(s providerv1.ExecSignal) string { return strings.TrimPrefix(s.String(), "EXEC_SIGNAL_") }

func signalHandled(t *engine.T) {
	box := stage.Create(t)
	// The signal reaches the group, so also the sleep that the shell waits for.
	var script strings.Builder
	for _, s := range handled {
		script.WriteString("trap 'echo got " + short(s) + "' " + short(s) + "\n")
	}
	script.WriteString("trap 'echo got TERM; exit 7' TERM\necho ready\nwhile :; do sleep 0.1; done 2>/dev/null\n")
	c := box.Start(stage.Script(script.String()))
	a := c.Attach()
	a.Until("ready\n")
	var want strings.Builder
	want.WriteString("ready\n")
	for _, s := range handled {
		c.Signal(s)
		a.Until("got " + short(s) + "\n")
		want.WriteString("got " + short(s) + "\n")
	}
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_TERM)
	a.Wait().Code(7).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out(want.String() + "got TERM\n")
}

func signalDefault(t *engine.T) {
	box := stage.Create(t)
	for _, s := range []providerv1.ExecSignal{
		providerv1.ExecSignal_EXEC_SIGNAL_TERM, providerv1.ExecSignal_EXEC_SIGNAL_KILL, providerv1.ExecSignal_EXEC_SIGNAL_INT,
		providerv1.ExecSignal_EXEC_SIGNAL_HUP, providerv1.ExecSignal_EXEC_SIGNAL_USR1,
	} {
		c := box.Start(stage.Script("echo ready; exec sleep 600"))
		a := c.Attach()
		a.Until("ready\n")
		c.Signal(s)
		a.Wait().Killed("SIG" + short(s)).Cause(providerv1.ExitCause_EXIT_CAUSE_SIGNALED).Out("ready\n")
	}
}

func signalGroup(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("{ " + beat("/tmp/beat") + "; } & echo ready; wait"))
	a := c.Attach()
	a.Until("ready\n")
	beats(t, box, "/tmp/beat")
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	a.Wait().Killed("SIGKILL").Cause(providerv1.ExitCause_EXIT_CAUSE_SIGNALED)
	silent(t, box, "/tmp/beat", "SIGKILL to end the children in the command's process group too")
}

func signalStop(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("echo ready; " + beat("/tmp/beat")))
	a := c.Attach()
	a.Until("ready\n")
	beats(t, box, "/tmp/beat")
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_STOP)
	silent(t, box, "/tmp/beat", "SIGSTOP to halt the command")
	if e := c.Get(); e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("a command that was halted is %s: want RUNNING", state(e))
	}
	box.Sh(": > /tmp/beat").Code(0)
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_CONT)
	beats(t, box, "/tmp/beat")
	t.Step("a command that was halted can be killed")
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_STOP)
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	a.Wait().Killed("SIGKILL").Cause(providerv1.ExitCause_EXIT_CAUSE_SIGNALED)
}

func signalAfterEnd(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("exit 3"))
	c.Wait().Code(3)
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_KILL)
	c.Signal(providerv1.ExecSignal_EXEC_SIGNAL_TERM)
	c.Wait().Code(3).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
	if e := c.Get(); e.GetState() != providerv1.ExecState_EXEC_STATE_EXITED || code(e.GetExit()) != 3 {
		t.Errorf("after a signal the command is %s with %s: want EXITED with exit code 3, as before", state(e), stage.ExitText(e.GetExit()))
	}
}

func signalFrame(t *engine.T) {
	box := stage.Create(t)
	a := box.Start(stage.Script("trap 'echo got USR2' USR2; trap 'echo bye; exit 8' TERM; echo ready; while :; do sleep 0.1; done 2>/dev/null")).Attach()
	a.Until("ready\n")
	a.SendSignal(providerv1.ExecSignal_EXEC_SIGNAL_USR2)
	a.Until("got USR2\n")
	a.SendSignal(providerv1.ExecSignal_EXEC_SIGNAL_TERM)
	a.Wait().Code(8).Out("ready\ngot USR2\nbye\n")
}
