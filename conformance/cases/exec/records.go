package exec

import (
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// records are the cases about what is told of a command without attaching.
func records() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/state", Title: "GetExec tells a command that runs from one that has ended, with what it printed and how it ended.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-031", "REQ-EXEC-030"}, Cost: 5,
			Run: recordState,
		},
		{
			ID: "exec/times", Title: "A command's start and end are its own.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-031"}, Cost: 5,
			Run: recordTimes,
		},
		{
			ID: "exec/list", Title: "ListExecs has the commands that run and those that ended a moment ago, oldest first.",
			Profile: engine.Exec, Requirements: []string{"REQ-CAP-002"}, Needs: []string{"exec.list"}, Cost: 5,
			Run: recordList,
		},
	}
}

func recordState(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("printf 12345; printf 123 >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; printf 6; exit 11"))
	a := c.Attach()
	a.Until("12345")
	a.AwaitStderr(3)
	e := c.Get()
	if e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING || e.GetExit() != nil || e.GetEndedAt() != nil {
		t.Errorf("a command that runs is %s with exit %v and end %v: want RUNNING with neither", state(e), e.GetExit(), e.GetEndedAt())
	}
	if e.GetExecId() != c.ID || e.GetSandboxId() != box.ID() || e.GetTerminal() || !slices.Equal(e.GetArgv(), c.Request.GetSpec().GetArgv()) {
		t.Errorf("GetExec says exec_id %q, sandbox_id %q, terminal %t, argv %q: want what was started", e.GetExecId(), e.GetSandboxId(), e.GetTerminal(), e.GetArgv())
	}
	if e.GetStdoutTotal() != 5 || e.GetStderrTotal() != 3 {
		t.Errorf("GetExec says totals of %d and %d bytes: want 5 and 3", e.GetStdoutTotal(), e.GetStderrTotal())
	}
	box.Sh("echo > /tmp/go").Code(0)
	a.Wait().Code(11).Out("123456")
	e = c.Get()
	if e.GetState() != providerv1.ExecState_EXEC_STATE_EXITED || code(e.GetExit()) != 11 ||
		e.GetExit().GetCause() != providerv1.ExitCause_EXIT_CAUSE_TASK || e.GetEndedAt() == nil {
		t.Errorf("a command that ended is %s with %s and end %v: want EXITED with exit code 11, cause TASK, and a time",
			state(e), stage.ExitText(e.GetExit()), e.GetEndedAt())
	}
	if e.GetStdoutTotal() != 6 || e.GetStderrTotal() != 3 || e.GetStdoutOldest() != 0 || e.GetStderrOldest() != 0 {
		t.Errorf("GetExec says totals of %d and %d, oldest %d and %d: want 6 and 3, 0 and 0",
			e.GetStdoutTotal(), e.GetStderrTotal(), e.GetStdoutOldest(), e.GetStderrOldest())
	}
}

func recordTimes(t *engine.T) {
	box := stage.Create(t)
	asked := time.Now()
	c := box.Start(stage.Script("sleep 1"))
	c.Wait().Code(0)
	most := time.Since(asked)
	stage.Pause(t, 300*time.Millisecond) // what is made up when asked would be later now
	e := c.Get()
	const coarse = 100 * time.Millisecond // what clocks may differ by
	took := e.GetEndedAt().AsTime().Sub(e.GetStartedAt().AsTime())
	if e.GetStartedAt() == nil || e.GetEndedAt() == nil || took < time.Second-coarse || took > most+coarse {
		t.Errorf("a command that slept for 1s began at %v and ended at %v: want a difference from 1s to %s", e.GetStartedAt().AsTime(), e.GetEndedAt().AsTime(), most)
	}
	if again := c.Get(); !again.GetStartedAt().AsTime().Equal(e.GetStartedAt().AsTime()) || !again.GetEndedAt().AsTime().Equal(e.GetEndedAt().AsTime()) {
		t.Errorf("asked again, its start and end are %v and %v: want what was said before", again.GetStartedAt().AsTime(), again.GetEndedAt().AsTime())
	}
}

func recordList(t *engine.T) {
	box := stage.Create(t)
	if n := len(list(t, box)); n != 0 {
		t.Errorf("a sandbox in which nothing was started lists %d commands", n)
	}
	ended := box.Start(stage.Script("exit 5"))
	ended.Wait().Code(5)
	running := box.Start(stage.Script("echo ready; sleep 600"))
	running.Attach().Until("ready\n")
	last := box.Start(stage.Argv("true"))
	last.Wait().Code(0)
	got := list(t, box)
	ids := make([]string, len(got))
	for i, e := range got {
		ids[i] = e.GetExecId()
	}
	if want := []string{ended.ID, running.ID, last.ID}; !slices.Equal(ids, want) {
		t.Fatalf("ListExecs answered %q: want %q, oldest first", ids, want)
	}
	if e := got[0]; e.GetState() != providerv1.ExecState_EXEC_STATE_EXITED || code(e.GetExit()) != 5 {
		t.Errorf("ListExecs says that the first is %s with %s: want EXITED with exit code 5", state(e), stage.ExitText(e.GetExit()))
	}
	if e := got[1]; e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING || e.GetExit() != nil {
		t.Errorf("ListExecs says that the second is %s with exit %v: want RUNNING without one", state(e), e.GetExit())
	}
}

func list(t *engine.T, box *stage.Box) []*providerv1.Exec {
	resp, err := box.Client().ListExecs(t.Context(), &providerv1.ListExecsRequest{Sandbox: box.Ref})
	stage.OK(t, "ListExecs", err)
	return resp.GetExecs()
}
