package identity

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func secrets() []engine.Case {
	return []engine.Case{{
		ID: "secret/not-echoed", Title: "A secret stands in no answer, no error, no log line, no argument and no environment.",
		Profile: engine.Core, Requirements: []string{"REQ-ID-005", "REQ-ERR-008"}, Kinds: own,
		Run: notEchoed,
	}}
}

// patience is how long one call may take that is made for what it says.
const patience = 10 * time.Second

func withPatience(t *engine.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), t.Slowly(patience))
}

// notEchoed gives each secret a value that is nowhere else, asks for everything
// there is, and looks for it in what came back.
func notEchoed(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	word := "suite-" + stage.NewID("secret")
	planted := 0
	req := change(inst, func(req *providerv1.ConfigureRequest) {
		for _, s := range inst.Describe.GetSettings() {
			if s.GetSecret() {
				planted++
				req.Secrets[s.GetName()] = []byte(word)
			}
		}
	})
	if planted == 0 {
		t.Skip(engine.NotDeclared, "a setting that is a secret")
	}
	look := func(where, text string) {
		if strings.Contains(text, word) {
			t.Errorf("%s has the secret", where)
		}
	}
	client := t.ClientOf(inst)
	_, err := client.Configure(t.Context(), req) // a vendor may be asked already, and refuse it
	look("the answer of Configure", subject.Describe(err))
	probe, err := client.Probe(t.Context(), &providerv1.ProbeRequest{})
	look("the answer of Probe", subject.Describe(err)+protojson.Format(probe))
	look("the answer of Describe", protojson.Format(ask(t, inst)))
	t.Step("call everything")
	values := stage.Values(t, nil)
	for _, md := range request.Methods() {
		// Configure would take the word away, and Drain the rest.
		if md.Name() == "Configure" || md.Name() == "Drain" {
			continue
		}
		req, err := request.New(md, values)
		if err != nil {
			t.Broken("no request calls %s: %v", md.Name(), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		look("the answer of "+string(md.Name()), subject.Describe(request.Send(ctx, inst.Conn, md, req)))
		cancel()
	}
	clean(t, inst, values.Owner)
	look("the plugin's log", inst.Stderr())
	if inst.Process == nil || runtime.GOOS != "linux" {
		return
	}
	for _, name := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", inst.Process.PID(), name))
		if err != nil {
			t.Broken("the plugin's process cannot be looked at: %v", err)
		}
		look("/proc/<pid>/"+name+" of the plugin", string(content))
	}
}

// clean removes what calls made that were made for their answers.
func clean(t *engine.T, inst *subject.Instance, owner string) {
	client := t.ClientOf(inst)
	ctx, cancel := withPatience(t)
	defer cancel()
	list, err := client.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: owner})
	if err != nil { // with a secret that is no key nothing was made
		return
	}
	for _, sb := range list.GetSandboxes() {
		_, err := client.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{
			Sandbox: &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId(), Handle: sb.GetHandle()},
		})
		stage.OK(t, "DeleteSandbox", err)
	}
}
