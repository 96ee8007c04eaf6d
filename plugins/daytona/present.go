package daytona

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// present puts what the vendor says of a sandbox into the contract's words, and
// remembers where it is.
func (d *Driver) present(sb *api.Sandbox, r record) (*providerv1.Sandbox, error) {
	if sb.State == api.Destroyed {
		d.known.Forget(r.ID)
		return nil, upstream.NotFound(r.ID)
	}
	// The key goes along to the toolbox.
	if err := upstream.CheckURL("toolboxProxyUrl", sb.ToolboxProxyURL, "https://proxy.app.daytona.io/toolbox"); err != nil {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "the vendor's answer about sandbox %q: %w", sb.ID, err).WithEffect(effectUnknown)
	}
	const cores, gibibyte = 1000, 1 << 30
	h := handle{ID: sb.ID, Proxy: sb.ToolboxProxyURL, Workdir: r.Workdir}
	d.known.Remember(r.ID, h)
	state, why := stateOf(sb)
	out := &providerv1.Sandbox{
		Identity:     &providerv1.Identity{SandboxId: r.ID, Owner: r.Owner, Labels: r.Labels},
		Operation:    &providerv1.Operation{IdempotencyKey: r.Key, RequestDigest: r.Digest},
		Handle:       h.proto(),
		State:        state,
		StatusReason: why,
		VendorId:     sb.ID,
		CreatedAt:    timestamppb.New(sb.CreatedAt),
		Resources: &providerv1.Resources{
			CpuMillis: int64(sb.CPU * cores), MemoryBytes: int64(sb.Memory * gibibyte), DiskBytes: int64(sb.Disk * gibibyte),
		},
		Region:         sb.Target,
		EgressStrength: providerv1.EgressStrength_EGRESS_STRENGTH_NATIVE,
	}
	if !sb.AutoDestroyAt.IsZero() {
		out.ExpiresAt = timestamppb.New(sb.AutoDestroyAt)
	}
	return out, nil
}

// stateOf: sandboxes of ours are ephemeral, so that one which was stopped is about to
// be destroyed.
func stateOf(sb *api.Sandbox) (providerv1.SandboxState, string) {
	if sb.DesiredState == api.Destroyed {
		return providerv1.SandboxState_SANDBOX_STATE_DELETING, "the vendor is destroying it"
	}
	switch sb.State {
	case api.Creating, api.Restoring, api.PendingBuild, api.BuildingSnapshot, api.PullingSnapshot, api.Starting:
		return providerv1.SandboxState_SANDBOX_STATE_CREATING, ""
	case api.Started:
		return providerv1.SandboxState_SANDBOX_STATE_RUNNING, ""
	case api.Destroying:
		return providerv1.SandboxState_SANDBOX_STATE_DELETING, "the vendor is destroying it"
	case api.Stopping, api.Stopped, api.Archiving, api.Archived:
		return providerv1.SandboxState_SANDBOX_STATE_FAILED, "it was stopped at the vendor, and is not started again"
	case api.Failed, api.BuildFailed:
		return providerv1.SandboxState_SANDBOX_STATE_FAILED, fmt.Sprintf("the vendor says %s: %s", sb.State, sb.ErrorReason)
	case api.Unknown, "":
		return providerv1.SandboxState_SANDBOX_STATE_UNKNOWN, "the vendor does not know its state"
	}
	// Nothing of this provider pauses, forks or resizes: somebody else does.
	return providerv1.SandboxState_SANDBOX_STATE_UNKNOWN, fmt.Sprintf("the vendor says %q, which is somebody else's doing", sb.State)
}
