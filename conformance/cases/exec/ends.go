package exec

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ends are the cases about how a command ends.
func ends() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/exit-code", Title: "A command's own exit code arrives, from 0 to 255.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-030", "REQ-EXEC-032"}, Cost: 5,
			Run: exitCode,
		},
		{
			ID: "exec/signal-exit", Title: "A command that a signal ended ends with the signal's name, and not with an exit code.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-030", "REQ-EXEC-032"}, Cost: 5,
			Run: signalExit,
		},
		{
			ID: "exec/timeout", Title: "A command that runs too long is killed with its whole group, and the cause says so.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-034", "REQ-EXEC-032"}, Cost: 10,
			Run: timeout,
		},
		{
			ID: "exec/timeout-unused", Title: "A timeout that does not pass changes nothing.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-034"}, Cost: 5,
			Run: timeoutUnused,
		},
		{
			ID: "exec/drain", Title: "A child that holds the pipes delays the end by the declared drain time, and no longer.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-036"}, Cost: 15, Budget: time.Minute,
			Run: drained,
		},
	}
}

func exitCode(t *engine.T) {
	box := stage.Create(t)
	for _, want := range []int32{0, 1, 2, 43, 126, 127, 128, 129, 130, 137, 143, 254, 255} {
		box.Sh("exit " + strconv.Itoa(int(want))).Code(want).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
	}
}

func signalExit(t *engine.T) {
	box := stage.Create(t)
	for _, name := range []string{"HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "PIPE", "ALRM", "TERM"} {
		out := box.Sh("echo before; kill -s " + name + " $$; echo after")
		out.Killed("SIG" + name).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("before\n")
	}
	t.Step("a shell whose child was killed says 128+n itself")
	box.Sh("sh -c 'kill -s KILL $$' 2>/dev/null; exit $?").Code(137).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
}

func timeout(t *engine.T) {
	box := stage.Create(t)
	spec := stage.Script("{ " + beat("/tmp/beat") + "; } & echo ready; trap : TERM; while :; do sleep 0.2; done")
	const limit = 3 * time.Second // enough for it to begin on a machine that is busy
	spec.Timeout = durationpb.New(limit)
	c := box.Start(spec)
	out := c.Wait().Cause(providerv1.ExitCause_EXIT_CAUSE_TIMEOUT).Out("ready\n")
	if code(out.Exit) == 0 {
		t.Errorf("a command that was killed for its time ended with exit code 0")
	}
	e := c.Get()
	const coarse = 100 * time.Millisecond // what clocks may differ by
	if took := e.GetEndedAt().AsTime().Sub(e.GetStartedAt().AsTime()); took < limit-coarse {
		t.Errorf("it was killed after %s: want no sooner than %s", took, limit)
	}
	silent(t, box, "/tmp/beat", "the timeout to end the children in the command's process group too")
}

func timeoutUnused(t *engine.T) {
	box := stage.Create(t)
	spec := stage.Script("sleep 0.3; echo done; exit 9")
	spec.Timeout = durationpb.New(time.Hour)
	box.Start(spec).Wait().Code(9).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("done\n")
}

func drained(t *engine.T) {
	box := stage.Create(t)
	late := min(drain(t)/8, 500*time.Millisecond) // a machine that is busy has the rest
	t.Step("a child prints within the drain time")
	script := "{ sleep " + strconv.FormatFloat(late.Seconds(), 'f', 3, 64) + "; echo late; } & echo now; exit 3"
	box.Sh(script).Code(3).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("now\nlate\n")
	t.Step("a child holds the pipes for longer")
	a := box.Start(stage.Script("{ sleep 600; echo never; } & echo now; exit 4")).Attach()
	if exit := a.AwaitExit(); code(exit) != 4 {
		t.Errorf("Exit says %s: want exit code 4", stage.ExitText(exit))
	}
	a.Silence(drain(t) + stage.Patience(t))
	a.Wait().Code(4).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("now\n").Err("")
}
