package lifecycle

import (
	"crypto/sha256"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// keys are the cases about idempotency.
func keys() []engine.Case {
	return []engine.Case{
		{
			ID: "create/idempotent-serial", Title: "The same key with the same digest answers the same sandbox, and makes one.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-001"}, Cost: 5,
			Run: idempotentSerial,
		},
		{
			ID: "create/idempotent-concurrent-16", Title: "Sixteen requests with one key at once make one sandbox.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-001"}, Cost: 5,
			Run: idempotentConcurrent,
		},
		{
			ID: "create/idempotent-after-restart", Title: "A key is honoured by the plugin that comes after the one that made the sandbox.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-004", "REQ-LIFE-002"}, Kinds: []subject.Kind{subject.Binary}, Phase: engine.Apart, Cost: 10,
			Run: idempotentAfterRestart,
		},
		{
			ID: "create/key-reused", Title: "A key that made one thing does not make, nor answer, another.",
			Profile: engine.Core, Requirements: []string{"REQ-IDEM-002"}, Cost: 5,
			Run: keyReused,
		},
	}
}

func idempotentSerial(t *engine.T) {
	req := stage.NewRequest(t)
	t.Step("create")
	first, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	t.Step("create again with the same key")
	again(t, req, first.GetSandbox())
}

// again repeats a request, which must answer the sandbox that it made.
func again(t *engine.T, req *providerv1.CreateSandboxRequest, first *providerv1.Sandbox) {
	second, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox with the same key", err)
	if a, b := first.GetVendorId(), second.GetSandbox().GetVendorId(); a != b {
		t.Errorf("the same key answered vendor_id %q, then %q: want one sandbox", a, b)
	}
	one(t)
}

// one checks that the case's owner has one sandbox.
func one(t *engine.T) {
	if list := stage.ListAll(t, t.Client(), t.Owner(), 0); len(list) != 1 {
		t.Errorf("the owner has %d sandboxes, %q: want 1", len(list), ids(list))
	}
}

func idempotentConcurrent(t *engine.T) {
	const callers = 16
	req := stage.NewRequest(t)
	answers, errs := make([]*providerv1.Sandbox, callers), make([]error, callers)
	var calls sync.WaitGroup
	for i := range callers {
		calls.Go(func() {
			resp, err := t.Client().CreateSandbox(t.Context(), proto.CloneOf(req))
			answers[i], errs[i] = resp.GetSandbox(), err
		})
	}
	calls.Wait()
	vendorIDs := map[string]int{}
	for i := range callers {
		switch {
		case errs[i] == nil:
			vendorIDs[answers[i].GetVendorId()]++
		case fault.From(errs[i]).Reason != providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS:
			t.Errorf("CreateSandbox beside 15 others with the same key: %s: want the sandbox, or OPERATION_IN_PROGRESS", subject.Describe(errs[i]))
		}
	}
	if len(vendorIDs) != 1 {
		t.Errorf("16 requests with one key answered these sandboxes, each so often: %v: want one sandbox", vendorIDs)
	}
	one(t)
}

func idempotentAfterRestart(t *engine.T) {
	req := stage.NewRequest(t)
	first, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	t.Step("kill the plugin")
	if err := t.Instance().Process.Kill(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	t.Step("create again with the same key")
	again(t, req, first.GetSandbox())
	found, err := t.Client().GetSandbox(t.Context(), byKey(req.GetOperation().GetIdempotencyKey()))
	stage.OK(t, "GetSandbox by key after a restart", err)
	if a, b := first.GetSandbox().GetVendorId(), found.GetSandbox().GetVendorId(); a != b {
		t.Errorf("after a restart the key finds vendor_id %q: want %q", b, a)
	}
}

func keyReused(t *engine.T) {
	req := stage.NewRequest(t)
	_, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	other := proto.CloneOf(req)
	other.Identity.SandboxId = stage.NewID("sbx")
	other.Spec.Env = map[string]string{"OTHER": "request"}
	digest := sha256.Sum256([]byte("another request"))
	other.Operation.RequestDigest = digest[:]
	_, err = t.Client().CreateSandbox(t.Context(), other)
	what := "CreateSandbox with a key that made something else"
	stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED))
	one(t)
}
