package pty

import (
	"fmt"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// terminals are the cases about what a terminal is.
func terminals() []engine.Case {
	needs := []string{"exec.pty"}
	return []engine.Case{
		{
			ID: "pty/is-terminal", Title: "Standard input, output and error are a terminal where one was asked for, and none where not.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-003"}, Needs: needs, Cost: 5,
			Run: isTerminal,
		},
		{
			ID: "pty/stderr-empty", Title: "At a terminal everything arrives on standard output, and standard error is empty.",
			Profile: engine.PTY, Requirements: []string{"REQ-PTY-003"}, Needs: needs, Cost: 5,
			Run: stderrEmpty,
		},
		{
			ID: "pty/exit", Title: "A command at a terminal ends with its own exit code or signal.",
			Profile: engine.PTY, Requirements: []string{"REQ-EXEC-030"}, Needs: needs, Cost: 5,
			Run: exit,
		},
		{
			ID: "pty/last-output", Title: "What a command at a terminal prints just before its end arrives, every time.",
			Profile: engine.PTY, Requirements: []string{"REQ-EXEC-010"}, Needs: needs, Cost: 10,
			Run: lastOutput,
		},
		{
			ID: "pty/background-child", Title: "A command at a terminal ends with its lead process, whoever still holds the terminal.",
			Profile: engine.PTY, Requirements: []string{"REQ-EXEC-036"}, Needs: needs, Cost: 10,
			Run: backgroundChild,
		},
	}
}

// at is a script at a terminal of 24 rows and 80 columns.
func at(script string) *providerv1.ExecSpec {
	spec := stage.Script(script)
	spec.Terminal = &providerv1.Terminal{Rows: 24, Cols: 80}
	return spec
}

func isTerminal(t *engine.T) {
	box := stage.Create(t)
	const plain = `for fd in 0 1 2; do if [ -t $fd ]; then echo "$fd yes"; else echo "$fd no"; fi; done`
	c := box.Start(at(plain + "; tty"))
	if !c.Exec.GetTerminal() || !c.Get().GetTerminal() {
		t.Errorf("StartExec and GetExec say terminal %t and %t: want true", c.Exec.GetTerminal(), c.Get().GetTerminal())
	}
	out := string(c.Wait().Code(0).Stdout)
	if want := "0 yes\r\n1 yes\r\n2 yes\r\n/dev/"; !strings.HasPrefix(out, want) {
		t.Errorf("at a terminal the script printed %q: want %q and the rest of its name", out, want)
	}
	c = box.Start(stage.Script(plain))
	if c.Exec.GetTerminal() || c.Get().GetTerminal() {
		t.Errorf("without a terminal StartExec and GetExec say terminal %t and %t", c.Exec.GetTerminal(), c.Get().GetTerminal())
	}
	c.Wait().Code(0).Out("0 no\n1 no\n2 no\n")
}

func stderrEmpty(t *engine.T) {
	box := stage.Create(t)
	out := box.Start(at("echo out; echo err >&2; echo out again")).Wait().Code(0)
	out.Out("out\r\nerr\r\nout again\r\n").Err("")
	if n := out.Done.GetStderrTotal(); n != 0 {
		t.Errorf("Done says that standard error has %d bytes: want 0", n)
	}
}

func exit(t *engine.T) {
	box := stage.Create(t)
	for _, want := range []int32{0, 3, 130, 255} {
		box.Start(at(fmt.Sprintf("exit %d", want))).Wait().Code(want).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
	}
	box.Start(at("kill -s TERM $$")).Wait().Killed("SIGTERM").Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
}

func lastOutput(t *engine.T) {
	box := stage.Create(t)
	for range 20 {
		box.Start(at("echo one; exec echo end")).Wait().Code(0).Out("one\r\nend\r\n")
	}
	const lines = 2000
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%d\r\n", i+1)
	}
	for range 3 {
		box.Start(at(fmt.Sprintf("exec seq 1 %d", lines))).Wait().Code(0).Out(want.String())
	}
}

func backgroundChild(t *engine.T) {
	box := stage.Create(t)
	a := box.Start(at("{ trap '' HUP; exec sleep 600; } & echo now; exit 5")).Attach()
	a.Wait().Code(5).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("now\r\n")
}
