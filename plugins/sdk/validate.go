package sdk

import (
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// validate checks what the contract says about every field of a request, once,
// so that no driver has to. It returns FIELD_INVALID with all violations.
func validate(req any) error {
	var v violations
	switch m := req.(type) {
	case *providerv1.CreateSandboxRequest:
		v.operation(m.GetOperation())
		v.identity("identity", m.GetIdentity())
		v.spec(m.GetSpec())
	case *providerv1.GetSandboxRequest:
		v.getSandbox(m)
	case *providerv1.ListSandboxesRequest:
		v.owner("owner", m.GetOwner())
		v.page(m.GetPageSize(), maxPage)
	case *providerv1.RecoverRequest:
		v.recover(m)
	case *providerv1.StartExecRequest:
		v.startExec(m)
	case *providerv1.AttachExecRequest:
		v.attachExec(m)
	case *providerv1.SignalExecRequest:
		v.ref(m.GetSandbox())
		v.id("exec_id", m.GetExecId())
		v.signal("signal", m.GetSignal())
	case *providerv1.GetExecRequest:
		v.ref(m.GetSandbox())
		v.id("exec_id", m.GetExecId())
	case *providerv1.DrainRequest:
		v.duration("grace", m.GetGrace(), true)
	default:
		if !v.snapshots(req) && !v.files(req) && !v.network(req) && !v.volumes(req) {
			v.bySandbox(req)
		}
	}
	return v.err()
}

// bySandbox checks requests that hold nothing but a sandbox.
func (v *violations) bySandbox(req any) {
	if m, ok := req.(interface{ GetSandbox() *providerv1.SandboxRef }); ok {
		v.ref(m.GetSandbox())
	}
}

func (v *violations) getSandbox(m *providerv1.GetSandboxRequest) {
	switch by := m.GetBy().(type) {
	case *providerv1.GetSandboxRequest_Sandbox:
		v.ref(by.Sandbox)
	case *providerv1.GetSandboxRequest_IdempotencyKey:
		v.key("idempotency_key", by.IdempotencyKey)
	default:
		v.add("by", "", "want sandbox or idempotency_key")
	}
}

// maxRecover is the number of handles in one Recover.
const maxRecover = 1000

func (v *violations) recover(m *providerv1.RecoverRequest) {
	if n := len(m.GetSandboxes()); n > maxRecover {
		v.add("sandboxes", strconv.Itoa(n)+" entries", "want at most "+strconv.Itoa(maxRecover))
		return
	}
	for i, ref := range m.GetSandboxes() {
		v.refAt("sandboxes["+strconv.Itoa(i)+"]", ref)
	}
}

func (v *violations) snapshots(req any) bool {
	switch m := req.(type) {
	case *providerv1.CreateSnapshotRequest:
		v.ref(m.GetSandbox())
		v.operation(m.GetOperation())
		v.id("snapshot_id", m.GetSnapshotId())
		v.labels("labels", m.GetLabels())
	case *providerv1.ListSnapshotsRequest:
		v.owner("owner", m.GetOwner())
		v.page(m.GetPageSize(), maxPage)
	case *providerv1.DeleteSnapshotRequest:
		v.id("snapshot_id", m.GetSnapshotId())
		v.handle("handle", m.GetHandle())
	case *providerv1.RestoreSnapshotRequest:
		v.operation(m.GetOperation())
		v.identity("identity", m.GetIdentity())
		v.id("snapshot_id", m.GetSnapshotId())
		v.handle("handle", m.GetHandle())
		v.duration("lifetime", m.GetLifetime(), false)
	case *providerv1.ForkSandboxRequest:
		v.fork(m)
	default:
		return false
	}
	return true
}

func (v *violations) fork(m *providerv1.ForkSandboxRequest) {
	v.ref(m.GetSandbox())
	v.operation(m.GetOperation())
	if len(m.GetIdentities()) == 0 {
		v.add("identities", "", "want one for each copy, at least one")
	}
	seen := map[string]bool{m.GetSandbox().GetSandboxId(): true}
	for i, id := range m.GetIdentities() {
		field := "identities[" + strconv.Itoa(i) + "]"
		v.identity(field, id)
		if seen[id.GetSandboxId()] {
			v.add(field+".sandbox_id", id.GetSandboxId(), "want an id of its own")
		}
		seen[id.GetSandboxId()] = true
	}
}

func (v *violations) network(req any) bool {
	switch m := req.(type) {
	case *providerv1.OpenTunnelRequest:
		v.tunnelOpen(m.GetFrame(), false)
	case *providerv1.CarryFlowRequest:
		v.tunnelOpen(m.GetFrame(), true)
	case *providerv1.GetPortURLRequest:
		v.ref(m.GetSandbox())
		v.port("port", m.GetPort())
		v.duration("lifetime", m.GetLifetime(), false)
	case *providerv1.UpdateEgressRequest:
		v.ref(m.GetSandbox())
		v.egress("egress", m.GetEgress())
	case *providerv1.WatchFlowsRequest:
		v.owner("owner", m.GetOwner())
	case *providerv1.WatchSandboxesRequest:
		v.owner("owner", m.GetOwner())
	case *providerv1.ExtendLifetimeRequest:
		v.ref(m.GetSandbox())
		if m.GetExpiresAt() == nil || !m.GetExpiresAt().IsValid() {
			v.add("expires_at", "", "want a time later than the present end")
		}
	default:
		return false
	}
	return true
}

func (v *violations) volumes(req any) bool {
	switch m := req.(type) {
	case *providerv1.CreateVolumeRequest:
		v.owner("owner", m.GetOwner())
		v.volume("name", m.GetName())
		v.labels("labels", m.GetLabels())
	case *providerv1.ListVolumesRequest:
		v.owner("owner", m.GetOwner())
		v.page(m.GetPageSize(), maxPage)
	case *providerv1.DeleteVolumeRequest:
		v.owner("owner", m.GetOwner())
		v.volume("name", m.GetName())
	default:
		return false
	}
	return true
}

func (v *violations) page(size, most int32) {
	if size < 1 || size > most {
		v.add("page_size", strconv.Itoa(int(size)), "want a number from 1 to "+strconv.Itoa(int(most))+", or 0 for the default")
	}
}

// duration accepts an absent one; zero says whether 0 is a value.
func (v *violations) duration(field string, d *durationpb.Duration, zero bool) {
	if d == nil {
		return
	}
	if !d.IsValid() || d.AsDuration() < 0 || (!zero && d.AsDuration() == 0) {
		v.add(field, d.AsDuration().String(), "want a duration above zero")
	}
}
