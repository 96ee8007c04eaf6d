package exec

import (
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// crowds are the cases about many commands.
func crowds() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/concurrent", Title: "32 commands run at once, each with its own output and end.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-005"}, Cost: 30, Budget: 2 * time.Minute,
			Run: concurrent,
		},
		{
			ID: "exec/in-a-row", Title: "A hundred commands one after the other each give their own output and end.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-010", "REQ-EXEC-030"}, Cost: 60, Budget: 3 * time.Minute,
			Run: inARow,
		},
	}
}

func concurrent(t *engine.T) {
	box := stage.Create(t)
	n := 32
	if limit, ok := t.Instance().Limit("", "max_execs"); ok {
		n = int(min(limit, int64(n)))
	}
	n-- // one more opens the gate
	const script = `echo "ready $1"; while [ ! -e /tmp/go ]; do sleep 0.2; done; echo "done $1"; exit "$1"`
	all := make([]*stage.Attachment, n)
	for i := range all {
		all[i] = box.Start(stage.Argv("sh", "-c", script, "sh", strconv.Itoa(i))).Attach()
	}
	for i, a := range all {
		a.Until("ready " + strconv.Itoa(i) + "\n")
	}
	t.Step("all of them run; let them go")
	box.Sh("echo > /tmp/go").Code(0)
	for i, a := range all {
		a.Wait().Code(int32(i)).Out("ready " + strconv.Itoa(i) + "\ndone " + strconv.Itoa(i) + "\n").Err("")
	}
}

func inARow(t *engine.T) {
	box := stage.Create(t)
	for i := range 100 {
		text := strconv.Itoa(i)
		out := box.Run("sh", "-c", `echo "$1"; echo "e$1" >&2; exit "$1"`, "sh", text)
		out.Code(int32(i)).Out(text + "\n").Err("e" + text + "\n")
	}
}
