package lifecycle

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
)

// keys are the cases about idempotency.
func keys() []engine.Case {
	return []engine.Case{
		{
			ID: "create/idempotent-serial", Title: "The same key with the same digest answers the same sandbox, and makes one.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-001"}, Cost: 5,
			Run: idempotentSerial,
		},
	}
}

func idempotentSerial(t *engine.T) {
	req := stage.NewRequest(t)
	t.Step("create")
	first, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	t.Step("create again with the same key")
	second, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox with the same key", err)
	if a, b := first.GetSandbox().GetVendorId(), second.GetSandbox().GetVendorId(); a != b {
		t.Errorf("the same key answered vendor_id %q, then %q: want one sandbox", a, b)
	}
	if n := len(stage.ListAll(t, t.Client(), t.Owner(), 0)); n != 1 {
		t.Errorf("the owner has %d sandboxes: want 1", n)
	}
}
