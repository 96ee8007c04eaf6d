package exec

import (
	"bytes"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// starts are the cases about what a command is started with.
func starts() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/argv", Title: "Arguments reach the program as they are, without a shell in between.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-001"}, Cost: 5,
			Run: argv,
		},
		{
			ID: "exec/unstartable", Title: "A program that does not exist ends with 127 and one that cannot be executed with 126, and says why.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-003"}, Cost: 5,
			Run: unstartable,
		},
		{
			ID: "exec/workdir", Title: "A command runs in its own working directory, or else in the sandbox's.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-001", "REQ-EXEC-003"}, Cost: 5,
			Run: workdir,
		},
		{
			ID: "exec/workdir-refused", Title: "A working directory that is absent or no directory is refused, and nothing is started.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-003", "REQ-ERR-005"}, Cost: 5,
			Run: workdirRefused,
		},
		{
			ID: "exec/user", Title: "A command runs as the user asked for by name, by uid, or by uid:gid.",
			Profile: engine.Exec, Requirements: []string{"REQ-CAP-002"}, Needs: []string{"exec.user"}, Cost: 5,
			Run: user,
		},
		{
			ID: "exec/user-refused", Title: "A user that does not exist is refused, and nothing is started.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-003", "REQ-ERR-005"}, Needs: []string{"exec.user"}, Cost: 5,
			Run: userRefused,
		},
	}
}

func argv(t *engine.T) {
	box := stage.Create(t)
	args := []string{
		"two words", "", " ", "*", "/*", "$HOME", "${PATH}", "$(id)", "`id`", "a;b", "a|b", "a&&b", ">x", "'", `"`, `\`, `\n`,
		"line\nline", "\ttab", "-n", "--", "größe", "日本語", "🦀", "~", "#no", "!", "{a,b}", "%s", strings.Repeat("long ", 2000),
	}
	out := box.Run(append([]string{"printf", "<%s>\n"}, args...)...)
	var want strings.Builder
	for _, a := range args {
		want.WriteString("<" + a + ">\n")
	}
	out.Code(0).Out(want.String())
	t.Step("many arguments")
	many := make([]string, 1000)
	for i := range many {
		many[i] = "a b"
	}
	out = box.Run(append([]string{"printf", "%s."}, many...)...)
	out.Code(0).Out(strings.Repeat("a b.", len(many)))
}

func unstartable(t *engine.T) {
	box := stage.Create(t)
	box.Sh("echo text > /tmp/plain && chmod 644 /tmp/plain").Code(0)
	for _, tc := range []struct {
		program string
		code    int32
	}{
		{"no-such-program-at-all", 127},
		{"/no/such/folder/program", 127},
		{"/tmp/plain", 126},
		{"/tmp", 126},
	} {
		out := box.Run(tc.program, "argument").Code(tc.code).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK).Out("")
		if n := bytes.Count(out.Stderr, []byte("\n")); n != 1 || !bytes.HasSuffix(out.Stderr, []byte("\n")) || len(out.Stderr) < 2 {
			t.Errorf("%s: standard error is %s: want one line that says why", tc.program, stage.Excerpt(out.Stderr))
		}
	}
}

func workdir(t *engine.T) {
	box := stage.Create(t, func(r *providerv1.CreateSandboxRequest) { r.Spec.Workdir = "/tmp" })
	box.Run("pwd").Code(0).Out("/tmp\n")
	box.Sh("mkdir -p '/tmp/a b/ü' && echo here > '/tmp/a b/ü/file'").Code(0)
	spec := stage.Script("pwd && cat file")
	spec.Workdir = "/tmp/a b/ü"
	box.Start(spec).Wait().Code(0).Out("/tmp/a b/ü\nhere\n")
	root := stage.Argv("pwd")
	root.Workdir = "/"
	box.Start(root).Wait().Code(0).Out("/\n")
}

func workdirRefused(t *engine.T) {
	box := stage.Create(t)
	box.Sh("echo text > /tmp/plain").Code(0)
	for _, dir := range []string{"/no/such/folder", "/tmp/plain", "/tmp/plain/below", "relative"} {
		spec := stage.Script("touch /tmp/ran")
		spec.Workdir = dir
		refused(t, box, spec, "spec.workdir")
	}
	box.Run("ls", "/tmp/ran").Code(missingFile(box))
}

// missingFile is what ls answers for a file that is not there.
func missingFile(box *stage.Box) int32 { return code(box.Run("ls", "/no/such/file").Exit) }

func user(t *engine.T) {
	box := stage.Create(t)
	for _, tc := range []struct{ user, script, want string }{
		{"root", "id -u", "0\n"},
		{"12345", "id -u", "12345\n"},
		{"12345:23456", "id -u; id -g", "12345\n23456\n"},
	} {
		spec := stage.Script(tc.script)
		spec.User, spec.Workdir = tc.user, "/"
		box.Start(spec).Wait().Code(0).Out(tc.want)
	}
	t.Step("its rights are the user's")
	box.Sh("umask 077; mkdir /tmp/private && echo secret > /tmp/private/file && chmod 700 /tmp/private").Code(0)
	spec := stage.Script("cat /tmp/private/file 2>/dev/null && echo read; echo mine > /tmp/own && cat /tmp/own")
	spec.User, spec.Workdir = "12345:23456", "/"
	box.Start(spec).Wait().Code(0).Out("mine\n")
}

func userRefused(t *engine.T) {
	box := stage.Create(t)
	for _, name := range []string{"no-such-user-at-all", "12345:no-such-group-at-all"} {
		spec := stage.Script("touch /tmp/ran")
		spec.User = name
		refused(t, box, spec, "spec.user")
	}
	box.Run("ls", "/tmp/ran").Code(missingFile(box))
}

// refused checks that a command is refused for one of its fields, and does not
// exist afterwards.
func refused(t *engine.T, box *stage.Box, spec *providerv1.ExecSpec, field string) {
	req := box.NewExec(spec)
	_, err := box.Client().StartExec(t.Context(), req)
	what := "StartExec with " + field + " " + spec.GetWorkdir() + spec.GetUser()
	f := stage.Refused(t, what, err, fieldInvalid)
	stage.NoEffect(t, what, f)
	stage.Names(t, what, f, "field", field)
	_, err = box.Client().GetExec(t.Context(), &providerv1.GetExecRequest{Sandbox: box.Ref, ExecId: req.GetExecId()})
	_ = stage.Refused(t, "GetExec of a command that was refused", err, execNotFound)
}
