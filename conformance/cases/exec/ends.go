package exec

import (
	"strconv"

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
	}
}

func exitCode(t *engine.T) {
	box := stage.Create(t)
	for _, code := range []int32{0, 1, 43, 127, 128, 137, 255} {
		out := box.Sh("exit " + strconv.Itoa(int(code)))
		out.Code(code).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
	}
}
