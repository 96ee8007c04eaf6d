package exec

import (
	"context"
	"strconv"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// attachments are the cases about attaching to a command, and again.
func attachments() []engine.Case {
	return []engine.Case{
		{
			ID: "attach/replay-from-zero", Title: "An attachment from offset 0 gets everything again, while the command runs and after it.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-011"}, Cost: 5,
			Run: replay,
		},
		{
			ID: "attach/resume-mid-offset", Title: "An attachment from an offset gets what comes after it, each byte once.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-011"}, Cost: 5,
			Run: resume,
		},
		{
			ID: "attach/one-stream", Title: "A stream that an attachment leaves out is not sent.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-010"}, Cost: 5,
			Run: oneStream,
		},
		{
			ID: "attach/two-readers", Title: "Several attachments at once each get everything.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-011"}, Cost: 5,
			Run: twoReaders,
		},
		{
			ID: "attach/cancel-does-not-kill", Title: "Cancelling an attachment detaches; the command runs on.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-033"}, Cost: 5,
			Run: cancelled,
		},
		{
			ID: "attach/after-exit", Title: "A command that has ended can be attached to: all its output, its exit, Done.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-011", "REQ-EXEC-015"}, Cost: 5,
			Run: afterExit,
		},
		{
			ID: "attach/unknown-exec", Title: "An attachment to a command that does not exist is refused.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-001"}, Cost: 5,
			Run: unknownExec,
		},
	}
}

func replay(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("printf 'a\\000b\\r\\n\\377'; echo; echo err >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo end"))
	first := c.Attach()
	first.Until("\xff\n")
	first.AwaitStderr(4)
	t.Step("again from 0 while it runs")
	second := c.Attach()
	second.Until("\xff\n")
	second.AwaitStderr(4)
	box.Sh("echo > /tmp/go").Code(0)
	const want = "a\x00b\r\n\xff\nend\n"
	first.Wait().Code(0).Out(want).Err("err\n")
	second.Wait().Code(0).Out(want).Err("err\n")
	t.Step("and after its end")
	c.Wait().Code(0).Out(want).Err("err\n")
}

func resume(t *engine.T) {
	box := stage.Create(t)
	size := min(retained(t)/2, 256<<10)
	c := box.Start(count(size))
	want := string(numbers(size))
	c.Wait().Code(0).Out(want)
	for _, from := range []int64{1, 2, 4096, size/2 + 7, int64(len(want)) - 1, int64(len(want))} {
		// That Opened and the first data say the offset asked for is checked in every case.
		c.Attach(stage.From(from, 0)).Wait().Code(0).Out(want[from:])
	}
	t.Step("the streams have offsets of their own")
	d := box.Start(stage.Script("printf 0123456789; printf abcdefghij >&2"))
	d.Wait().Code(0)
	d.Attach(stage.From(3, 7)).Wait().Code(0).Out("3456789").Err("hij")
	t.Step("in the middle of a command that goes on")
	e := box.Start(stage.Script("printf 0123456789; while [ ! -e /tmp/go ]; do sleep 0.1; done; printf abc"))
	first := e.Attach()
	first.Until("0123456789")
	first.Detach()
	again := e.Attach(stage.From(first.Next(), 0))
	box.Sh("echo > /tmp/go").Code(0)
	again.Wait().Code(0).Out("abc")
}

func oneStream(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("echo out; echo err >&2"))
	// Data that was not asked for is an error in every case.
	c.Attach(stage.From(0, -1)).Wait().Code(0).Out("out\n").Err("")
	c.Attach(stage.From(-1, 0)).Wait().Code(0).Out("").Err("err\n")
	c.Attach(stage.From(-1, -1)).Wait().Code(0).Out("").Err("")
}

func twoReaders(t *engine.T) {
	box := stage.Create(t)
	size := 2 * retained(t)
	c := box.Start(stage.Argv("sh", "-c", `while [ ! -e /tmp/go ]; do sleep 0.1; done; exec seq 1 "$1"`, "sh", strconv.FormatInt(lastNumber(size), 10)))
	all := []*stage.Attachment{c.Attach(), c.Attach(), c.Attach()}
	box.Sh("echo > /tmp/go").Code(0)
	want := string(numbers(size))
	for _, a := range all {
		a.Wait().Code(0).Out(want)
	}
}

func cancelled(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo alive"))
	for range 3 {
		a := c.Attach()
		a.Until("ready\n")
		a.Detach()
	}
	box.Ticks(10)
	if e := c.Get(); e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Fatalf("after its attachments were cancelled the command is %s with %s: want RUNNING", state(e), stage.ExitText(e.GetExit()))
	}
	box.Sh("echo > /tmp/go").Code(0)
	stage.Eventually(t, stage.Patience(t), "the command to end by itself", func(context.Context) bool {
		return c.Get().GetState() != providerv1.ExecState_EXEC_STATE_RUNNING
	})
	c.Wait().Code(0).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("ready\nalive\n")
}

func afterExit(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("echo out; echo err >&2; exit 12"))
	stage.Eventually(t, stage.Patience(t), "the command to end", func(context.Context) bool {
		return c.Get().GetState() == providerv1.ExecState_EXEC_STATE_EXITED
	})
	for range 3 { // reading does not use it up
		c.Wait().Code(12).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("out\n").Err("err\n")
	}
	c.Attach(stage.From(4, 4)).Wait().Code(12).Out("").Err("")
}

func unknownExec(t *engine.T) {
	box := stage.Create(t)
	what := "AttachExec to a command that is not there"
	stage.NoEffect(t, what, box.Named(stage.NewID("exe")).TryAttach().Refused(what, execNotFound))
	stage.NoEffect(t, what, box.Named(stage.NewID("exe")).TryAttach(stage.FromOldest()).Refused(what, execNotFound))
}
