package stage

import (
	"context"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Open opens another instance of the plugin, which ends with the case. What the
// case makes there it removes there: the case's own instance may not know it.
func Open(t *engine.T, opts subject.OpenOptions) *subject.Instance {
	if opts.Owner == "" {
		opts.Owner = t.Owner()
	}
	inst, err := t.Target().Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("the plugin could not be started: %v", err)
	}
	t.Cleanup(func(ctx context.Context) { _ = inst.Close(ctx) }) // the verdict does not depend on it
	return inst
}

// Values are what requests made from descriptors refer to; box may be nil for
// those that need no sandbox, which then name one that does not exist.
func Values(t *engine.T, box *Box) request.Values {
	v := request.Values{
		Owner: t.Owner(), Spec: NewRequest(t).GetSpec(), Path: "/tmp/" + NewID("suite"), Has: t.Has,
		Sandbox: &providerv1.SandboxRef{SandboxId: NewID("sbx")},
	}
	if box != nil {
		v.Sandbox = box.Ref
	}
	return v
}
