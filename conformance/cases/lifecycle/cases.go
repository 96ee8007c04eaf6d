// Package lifecycle holds the cases about creating, getting, listing and
// deleting sandboxes, keys, lifetimes, usage, watching, recovery, and what is left
// at the end.
package lifecycle

import (
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Cases returns the area's cases.
func Cases() []engine.Case {
	return slices.Concat(create(), keys(), get(), list(), deletion(), lifetime(), usage(), watch(), recovery(), garbage())
}

// own are the targets where a case speaks to the plugin itself. A broker has
// owners, keys and handles of its own between the two.
var own = []subject.Kind{subject.Binary, subject.InProcess}

// settling is how long a vendor's listing may lag behind.
const settling = 10 * time.Second

// byKey is the request that asks by key.
func byKey(key string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: key}}
}

// ids of sandboxes.
func ids(list []*providerv1.Sandbox) []string {
	out := make([]string, len(list))
	for i, sb := range list {
		out[i] = sb.GetIdentity().GetSandboxId()
	}
	return out
}

// gone checks that a sandbox does not exist.
func gone(t *engine.T, what string, err error) {
	if err == nil {
		t.Fatalf("%s succeeded: want SANDBOX_NOT_FOUND", what)
	}
	stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND))
}
