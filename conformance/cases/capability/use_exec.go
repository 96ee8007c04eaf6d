package capability

import (
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// execUses are the uses of what commands can have.
func execUses() map[string]use {
	return map[string]use{
		"exec.list": {run: func(t *engine.T) {
			box := stage.Create(t)
			cmd := box.Start(stage.Argv("sleep", "60"))
			resp, err := box.Client().ListExecs(t.Context(), &providerv1.ListExecsRequest{Sandbox: box.Ref})
			stage.OK(t, "ListExecs", err)
			if !slices.ContainsFunc(resp.GetExecs(), func(e *providerv1.Exec) bool { return e.GetExecId() == cmd.ID }) {
				t.Errorf("ListExecs answers %d commands without the one that runs: want it among them", len(resp.GetExecs()))
			}
		}},
		"exec.pty": {run: func(t *engine.T) {
			box := stage.Create(t)
			spec := stage.Argv("tty")
			spec.Terminal = &providerv1.Terminal{Rows: 24, Cols: 80}
			box.Start(spec).Wait().Code(0)
		}},
		"exec.signal": {run: func(t *engine.T) {
			cmd := stage.Create(t).Start(stage.Argv("sleep", "60"))
			cmd.Signal(providerv1.ExecSignal_EXEC_SIGNAL_TERM)
			cmd.Wait().Killed("SIGTERM")
		}},
		"exec.stdin": {run: func(t *engine.T) {
			spec := stage.Argv("cat")
			spec.Stdin = true
			a := stage.Create(t).Start(spec).Attach(stage.Writer())
			a.Input([]byte("hello"))
			a.CloseInput()
			a.Wait().Code(0).Out("hello")
		}},
		"exec.user": {run: func(t *engine.T) {
			box := stage.Create(t)
			spec := stage.Argv("id", "-u")
			spec.User = "1000"
			box.Start(spec).Wait().Code(0).Out("1000\n")
		}},
		"exec.reattach": {run: reattach, kinds: []subject.Kind{subject.Binary}, phase: engine.Apart},
	}
}

// reattach reads a command's output on both sides of the plugin's death.
func reattach(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Script("echo before; sleep 1; echo after"))
	a := cmd.Attach()
	a.Until("before")
	t.Step("kill the plugin")
	if err := t.Instance().Process.Kill(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	out := cmd.Wait().Code(0)
	if got := string(out.Stdout); got != "before\nafter\n" {
		t.Errorf("after the plugin's death standard output is %q: want all of it, %q", got, "before\nafter\n")
	}
}

// write makes a file with a command.
func write(box *stage.Box, path, content string) {
	box.Start(stage.Script("printf %s " + quote(content) + " > " + quote(path))).Wait().Code(0)
}

// quote is a word for the guest's shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
