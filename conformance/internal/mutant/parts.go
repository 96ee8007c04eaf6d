package mutant

import (
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// clone copies a message, so that a mutant does not change what the reference
// keeps.
func clone[M proto.Message](m M) M { return proto.CloneOf(m) }

// newKey is a key that no request had.
func newKey() string { return provider.NewKey() }

func bySandboxID(id string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: &providerv1.SandboxRef{SandboxId: id}}}
}

// answers reports whether a server answers with a reason.
func answers(err error, reason providerv1.ErrorReason) bool {
	return err != nil && fault.From(err).Reason == reason
}
