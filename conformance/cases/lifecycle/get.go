package lifecycle

import (
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func get() []engine.Case {
	return []engine.Case{
		{
			ID: "get/by-key", Title: "A key finds the sandbox that it made.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-003"}, Kinds: own, Cost: 3,
			Run: getByKey,
		},
		{
			ID: "get/by-key-settles", Title: "A key that made nothing is said to have made nothing, and makes nothing from then on.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-003"}, Kinds: own,
			Run: settles,
		},
		{
			ID: "get/with-ref-only", Title: "A sandbox is served by its id alone, without the handle.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-003"}, Kinds: own, Cost: 5,
			Run: refOnly,
		},
		{
			ID: "get/identity", Title: "Identity, labels and operation come back from Create, Get and List as they were given.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-002"}, Kinds: own, Cost: 3,
			Run: identity,
		},
		{
			ID: "get/absent", Title: "A sandbox that was never made is not found.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-001"},
			Run: func(t *engine.T) {
				_, err := t.Client().GetSandbox(t.Context(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{
					Sandbox: &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")},
				}})
				gone(t, "GetSandbox of a sandbox that was never made", err)
			},
		},
	}
}

func getByKey(t *engine.T) {
	req := stage.NewRequest(t)
	made, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	found, err := t.Client().GetSandbox(t.Context(), byKey(req.GetOperation().GetIdempotencyKey()))
	stage.OK(t, "GetSandbox by key", err)
	if a, b := made.GetSandbox().GetVendorId(), found.GetSandbox().GetVendorId(); a != b {
		t.Errorf("the key finds vendor_id %q: want %q, which it made", b, a)
	}
}

func settles(t *engine.T) {
	req := stage.NewRequest(t)
	_, err := t.Client().GetSandbox(t.Context(), byKey(req.GetOperation().GetIdempotencyKey()))
	gone(t, "GetSandbox by a key that made nothing", err)
	t.Step("the request arrives after all")
	_, err = t.Client().CreateSandbox(t.Context(), req)
	what := "CreateSandbox with a key of which it was said that it will make nothing"
	stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED))
	if left := stage.ListAll(t, t.Client(), t.Owner(), 0); len(left) > 0 {
		t.Errorf("%s made %q", what, ids(left))
	}
}

func refOnly(t *engine.T) {
	box := stage.Create(t)
	box.Ref = &providerv1.SandboxRef{SandboxId: box.ID()}
	if got := box.Get().GetVendorId(); got != box.Sandbox.GetVendorId() {
		t.Errorf("without the handle GetSandbox finds vendor_id %q: want %q", got, box.Sandbox.GetVendorId())
	}
	box.Run("echo", "hello").Code(0).Out("hello\n")
	if box.Delete().GetAlreadyAbsent() {
		t.Errorf("without the handle DeleteSandbox says already_absent of a sandbox that runs")
	}
	_, err := box.Client().GetSandbox(t.Context(), box.ByRef())
	gone(t, "GetSandbox after DeleteSandbox without the handle", err)
}

func identity(t *engine.T) {
	req := stage.NewRequest(t)
	req.Identity.Labels = map[string]string{
		"plain": "value", "a.b/c_d-e": "", "Long": strings.Repeat("x", 255), "words": "two words, ünïcode: 日本",
	}
	made, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	box := stage.Found(t, t.Client(), made.GetSandbox())
	box.AwaitRunning()
	check := func(where string, sb *providerv1.Sandbox) {
		if diff := stage.Difference(req.GetIdentity(), sb.GetIdentity()); diff != "" {
			t.Errorf("identity as %s has it (- given, + got):\n%s", where, diff)
		}
		if diff := stage.Difference(req.GetOperation(), sb.GetOperation()); diff != "" {
			t.Errorf("operation as %s has it (- given, + got):\n%s", where, diff)
		}
	}
	check("CreateSandbox", made.GetSandbox())
	check("GetSandbox", box.Get())
	listed := stage.ListAll(t, t.Client(), t.Owner(), 0)
	if len(listed) != 1 {
		t.Fatalf("ListSandboxes has %q: want the one that was made", ids(listed))
	}
	check("ListSandboxes", listed[0])
}
