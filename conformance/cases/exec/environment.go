package exec

import (
	"maps"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// environments are the cases about variables.
func environments() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/env-order", Title: "A command's variables win over the sandbox's, and those over the image's.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-004"}, Cost: 5,
			Run: envOrder,
		},
		{
			ID: "exec/env-exact", Title: "A command's variables are there as they were given, for it alone, and nothing comes along.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-004"}, Cost: 5,
			Run: envExact,
		},
		{
			ID: "exec/env-foreign", Title: "Nothing of the plugin's or its machine's environment reaches a command.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-004"}, Cost: 5,
			Run: envForeign,
		},
	}
}

func envOrder(t *engine.T) {
	box := stage.Create(t, func(r *providerv1.CreateSandboxRequest) {
		r.Spec.Env = map[string]string{"SUITE_BOTH": "sandbox", "SUITE_BOX": "sandbox", "HOME": "/tmp"}
	})
	spec := stage.Script(`echo "$SUITE_BOTH $SUITE_BOX $SUITE_OWN $HOME"`)
	box.Start(spec).Wait().Code(0).Out("sandbox sandbox  /tmp\n")
	spec = stage.Script(`echo "$SUITE_BOTH $SUITE_BOX $SUITE_OWN $HOME"`)
	spec.Env = map[string]string{"SUITE_BOTH": "command", "SUITE_OWN": "command", "HOME": "/"}
	box.Start(spec).Wait().Code(0).Out("command sandbox command /\n")
}

func envExact(t *engine.T) {
	box := stage.Create(t)
	before := variables(box, nil)
	added := map[string]string{
		"SUITE_EMPTY": "", "SUITE_SPACES": "  a  b  ", "SUITE_EQUALS": "a=b=c", "SUITE_QUOTES": `'"\$HOME`, "SUITE_UNICODE": "größe 日本",
		"suite_lower": "x", "SUITE_LONG": strings.Repeat("v", 8000),
	}
	after := variables(box, added)
	want := maps.Clone(before)
	maps.Copy(want, added)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := want[name]; !ok {
			t.Errorf("variable %s appeared with others: want only those that were given", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got, ok := after[name]; !ok || got != want[name] {
			t.Errorf("variable %s is %s (set: %t): want %s", name, stage.Excerpt([]byte(got)), ok, stage.Excerpt([]byte(want[name])))
		}
	}
	t.Step("a value of two lines")
	spec := stage.Script(`printf '<%s>' "$SUITE_LINES"`)
	spec.Env = map[string]string{"SUITE_LINES": "one\ntwo\n"}
	box.Start(spec).Wait().Code(0).Out("<one\ntwo\n>")
	t.Step("they were the command's alone")
	for name := range variables(box, nil) {
		if _, ok := added[name]; ok {
			t.Errorf("variable %s of an earlier command is still there", name)
		}
	}
}

// foreign are names that a plugin has in its environment, or that hold what no
// sandbox may know.
var foreign = pattern.Lazy(`^(SANDBAR_|PLUGIN_|GRPC_|SSH_|SUDO_|DBUS_|XDG_|INVOCATION_ID$|JOURNAL_STREAM$|NOTIFY_SOCKET$|LISTEN_)` +
	`|TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY`)

func envForeign(t *engine.T) {
	box := stage.Create(t)
	for name := range variables(box, nil) {
		if foreign().MatchString(name) {
			t.Errorf("variable %s reached the command: it is the plugin's, or its machine's", name)
		}
	}
}

var assignment = pattern.Lazy(`(?m)^([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)

// variables is the environment that env prints, started with some more.
func variables(box *stage.Box, more map[string]string) map[string]string {
	spec := stage.Argv("env")
	spec.Env = more
	out := box.Start(spec).Wait().Code(0)
	found := map[string]string{}
	for _, m := range assignment().FindAllSubmatch(out.Stdout, -1) {
		found[string(m[1])] = string(m[2])
	}
	return found
}
