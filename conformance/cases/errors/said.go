package errors

import (
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// said are the cases about messages.
func said() []engine.Case {
	return []engine.Case{
		{
			ID: "error/message-variables-in-metadata", Title: "What a message quotes is in the metadata, too.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-004"}, Cost: 3,
			Run: variables,
		},
		{
			ID: "error/no-secret-in-message", Title: "An error about an environment does not show its values.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-008"}, Cost: 3,
			Run: noSecret,
		},
	}
}

var quoted = pattern.Lazy(`"([^"\\]+)"`)

func variables(t *engine.T) {
	box := stage.Create(t)
	client := t.Client()
	check := func(what string, err error) {
		if err == nil {
			t.Errorf("%s succeeded: want it refused", what)
			return
		}
		f := fault.From(err)
		for _, m := range quoted().FindAllStringSubmatch(f.Message, -1) {
			found := false
			for _, value := range f.Metadata {
				found = found || strings.Contains(value, m[1])
			}
			if !found {
				t.Errorf("%s: message %q has %q, and metadata %v has it nowhere", what, f.Message, m[1], f.Metadata)
			}
		}
	}
	_, err := client.GetSandbox(t.Context(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{
		Sandbox: &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")},
	}})
	check("GetSandbox of what does not exist", err)
	_, err = client.GetExec(t.Context(), &providerv1.GetExecRequest{Sandbox: box.Ref, ExecId: stage.NewID("exe")})
	check("GetExec of what does not exist", err)
	req := box.NewExec(stage.Argv("true"))
	_, err = client.StartExec(t.Context(), req)
	stage.OK(t, "StartExec", err)
	req.Spec.Argv = []string{"false"}
	req.RequestDigest = slices.Repeat([]byte{7}, len(req.GetRequestDigest()))
	_, err = client.StartExec(t.Context(), req)
	check("StartExec with an id that was used", err)
	bad := box.NewExec(stage.Argv("true"))
	bad.Spec.Workdir = "not/absolute"
	_, err = client.StartExec(t.Context(), bad)
	check("StartExec in a relative folder", err)
	if t.Has("fs.read") {
		_, err = client.StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: "/no/such/file"})
		check("StatFile of what does not exist", err)
	}
}

func noSecret(t *engine.T) {
	box := stage.Create(t)
	word := "value-" + stage.NewID("secret")
	look := func(what string, err error) {
		if err == nil {
			t.Errorf("%s succeeded: want it refused", what)
			return
		}
		if text := subject.Describe(err); strings.Contains(text, word) {
			t.Errorf("%s: the error shows the value: %s", what, text)
		}
	}
	for what, change := range map[string]func(*providerv1.ExecSpec){
		"a value with NUL":                 func(s *providerv1.ExecSpec) { s.Env = map[string]string{"TOKEN": word + "\x00"} },
		"a name with =":                    func(s *providerv1.ExecSpec) { s.Env = map[string]string{"TO=KEN": word} },
		"a wrong folder beside the secret": func(s *providerv1.ExecSpec) { s.Env, s.Workdir = map[string]string{"TOKEN": word}, "relative" },
	} {
		req := box.NewExec(stage.Argv("true"))
		change(req.GetSpec())
		_, err := box.Client().StartExec(t.Context(), req)
		look("StartExec with "+what, err)
	}
	req := stage.NewRequest(t)
	req.Spec.Env = map[string]string{"TOKEN": word + "\x00"}
	_, err := t.Client().CreateSandbox(t.Context(), req)
	look("CreateSandbox with a value with NUL", err)
}
