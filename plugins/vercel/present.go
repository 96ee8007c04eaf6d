package vercel

import (
	"cmp"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ending is how much earlier than its timeout a session's own clock may have
// stopped it.
const ending = 2 * time.Second

// present puts what the vendor says of a sandbox into the contract's words, and
// remembers where it is. One that has reached the end of its lifetime does not exist
// any more: the vendor keeps a record of it, and nothing can bring it back.
func (d *Driver) present(a *api.SandboxAnswer, r record) (*providerv1.Sandbox, error) {
	made := time.UnixMilli(cmp.Or(a.Session.StartedAt, a.Session.CreatedAt)) // from when the vendor counts
	end := made.Add(time.Duration(a.Session.Timeout) * time.Millisecond)
	state, why := stateOf(a.Session.Status, a.Sandbox.Persistent)
	paused := state == providerv1.SandboxState_SANDBOX_STATE_PAUSED
	if over(a.Session, end, d.opts.Now()) || (paused && !d.opts.Now().Before(end)) {
		d.known.Forget(r.ID)
		return nil, expired(r.ID)
	}
	h := handle{Name: a.Sandbox.Name, Session: a.Session.ID, Workdir: r.Workdir}
	d.known.Remember(r.ID, h)
	out := &providerv1.Sandbox{
		Identity:     &providerv1.Identity{SandboxId: r.ID, Owner: r.Owner, Labels: r.Labels},
		Operation:    &providerv1.Operation{IdempotencyKey: r.Key, RequestDigest: r.Digest},
		Handle:       h.proto(),
		State:        state,
		StatusReason: why,
		VendorId:     a.Sandbox.Name,
		CreatedAt:    timestamppb.New(made),
		Resources: &providerv1.Resources{
			CpuMillis: int64(a.Session.VCPUs * 1000), MemoryBytes: int64(a.Session.Memory * (1 << 20)),
		},
		Region:         a.Session.Region,
		EgressStrength: providerv1.EgressStrength_EGRESS_STRENGTH_NATIVE,
	}
	if a.Session.Timeout > 0 {
		out.ExpiresAt = timestamppb.New(end)
	}
	if paused {
		out.Kept = &providerv1.Keeps{Disk: true}
	}
	return out, nil
}

// stateOf: sandboxes of ours are persistent only while they are paused, so that one
// whose session ended otherwise has lost its disk.
func stateOf(status string, persistent bool) (providerv1.SandboxState, string) {
	if persistent {
		switch status {
		case api.Pending:
			return providerv1.SandboxState_SANDBOX_STATE_RESUMING, ""
		case api.Stopping, api.Snapshotting:
			return providerv1.SandboxState_SANDBOX_STATE_PAUSING, ""
		case api.Stopped:
			return providerv1.SandboxState_SANDBOX_STATE_PAUSED, ""
		}
	}
	switch status {
	case api.Pending:
		return providerv1.SandboxState_SANDBOX_STATE_CREATING, ""
	case api.Running:
		return providerv1.SandboxState_SANDBOX_STATE_RUNNING, ""
	case api.Stopping, api.Snapshotting:
		return providerv1.SandboxState_SANDBOX_STATE_DELETING, "the vendor is stopping it"
	case api.Stopped:
		return providerv1.SandboxState_SANDBOX_STATE_FAILED, "it was stopped at the vendor before the end of its lifetime, and its disk is gone"
	case api.Failed, api.Aborted:
		return providerv1.SandboxState_SANDBOX_STATE_FAILED, "the vendor says that its session has " + status
	}
	return providerv1.SandboxState_SANDBOX_STATE_UNKNOWN, fmt.Sprintf("the vendor says %q, which is not documented", status)
}

// over reports whether a session ended because its time was up.
func over(s api.Session, end, now time.Time) bool {
	if s.Status != api.Stopped && s.Status != api.Stopping {
		return false
	}
	stopped := now
	if s.StoppedAt > 0 {
		stopped = time.UnixMilli(s.StoppedAt)
	}
	return !stopped.Before(end.Add(-ending))
}

func expired(id string) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q has reached the end of its lifetime", id).With("sandbox_id", id)
}
