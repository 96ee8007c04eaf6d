package server_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestTenantsAreApart(t *testing.T) {
	o := newOffice(t, "acme", "rival")
	ours, theirs := o.holder(t, "acme", brokerv1.Role_ROLE_USER), o.holder(t, "rival", brokerv1.Role_ROLE_OPERATOR)
	made, err := ours.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "web", IdempotencyKey: "k"}))
	check(t, err)
	id := made.Msg.GetSandbox().GetSandboxId()
	if got := made.Msg.GetSandbox().GetTenant(); got != "acme" {
		t.Errorf("it is %q's", got)
	}
	_, err = ours.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "web"}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS)
	snap, err := ours.CreateSnapshot(t.Context(), connect.NewRequest(&brokerv1.CreateSnapshotRequest{Sandbox: "web", Name: "s"}))
	check(t, err)
	_, err = ours.CreateVolume(t.Context(), connect.NewRequest(&brokerv1.CreateVolumeRequest{Name: "data"}))
	check(t, err)
	exec, err := ours.StartExec(t.Context(), connect.NewRequest(&providerv1.StartExecRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: id}, Spec: &providerv1.ExecSpec{Argv: []string{"sleep"}},
	}))
	check(t, err)

	gone := func(what string, err error) {
		t.Helper()
		var f *fault.Error
		if !errors.As(err, &f) || f.Code().String() != "NotFound" {
			t.Errorf("%s: %v, want that there is none", what, err)
		}
	}
	for _, name := range []string{id, "web"} {
		_, err := theirs.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: name, Refresh: true}))
		gone("get", err)
		_, err = theirs.ExplainSandbox(t.Context(), connect.NewRequest(&brokerv1.ExplainSandboxRequest{Sandbox: name}))
		gone("explain", err)
		_, err = theirs.PauseSandbox(t.Context(), connect.NewRequest(&brokerv1.PauseSandboxRequest{Sandbox: name}))
		gone("pause", err)
		_, err = theirs.ForkSandbox(t.Context(), connect.NewRequest(&brokerv1.ForkSandboxRequest{Sandbox: name, Count: 1}))
		gone("fork", err)
		_, err = theirs.CreateSnapshot(t.Context(), connect.NewRequest(&brokerv1.CreateSnapshotRequest{Sandbox: name}))
		gone("snapshot", err)
		ref := &providerv1.SandboxRef{SandboxId: name}
		_, err = theirs.GetExec(t.Context(), connect.NewRequest(&providerv1.GetExecRequest{Sandbox: ref, ExecId: exec.Msg.GetExec().GetExecId()}))
		gone("exec", err)
		_, err = theirs.GetUsage(t.Context(), connect.NewRequest(&providerv1.GetUsageRequest{Sandbox: ref}))
		gone("usage", err)
		stream := theirs.AttachExec(t.Context())
		check(t, stream.Send(&providerv1.AttachExecRequest{Input: &providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{
			Open: &providerv1.ExecOpen{Sandbox: ref, ExecId: exec.Msg.GetExec().GetExecId()},
		}}}))
		_, err = stream.Receive()
		gone("attach", err)
		res, err := theirs.DeleteSandbox(t.Context(), connect.NewRequest(&brokerv1.DeleteSandboxRequest{Sandbox: name}))
		check(t, err)
		if !res.Msg.GetAlreadyAbsent() {
			t.Errorf("%s was deleted by another tenant", name)
		}
	}
	for _, name := range []string{snap.Msg.GetSnapshot().GetSnapshotId(), "s"} {
		_, err := theirs.RestoreSnapshot(t.Context(), connect.NewRequest(&brokerv1.RestoreSnapshotRequest{Snapshot: name}))
		gone("restore", err)
		res, err := theirs.DeleteSnapshot(t.Context(), connect.NewRequest(&brokerv1.DeleteSnapshotRequest{Snapshot: name}))
		check(t, err)
		if !res.Msg.GetAlreadyAbsent() {
			t.Errorf("%s was deleted by another tenant", name)
		}
	}
	sandboxes, err := theirs.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
	check(t, err)
	snapshots, err := theirs.ListSnapshots(t.Context(), connect.NewRequest(&brokerv1.ListSnapshotsRequest{SandboxId: id}))
	check(t, err)
	volumes, err := theirs.ListVolumes(t.Context(), connect.NewRequest(&brokerv1.ListVolumesRequest{}))
	check(t, err)
	keys, err := theirs.Access.ListAPIKeys(t.Context(), connect.NewRequest(&brokerv1.ListAPIKeysRequest{}))
	check(t, err)
	tenants, err := theirs.Access.ListTenants(t.Context(), connect.NewRequest(&brokerv1.ListTenantsRequest{}))
	check(t, err)
	if len(sandboxes.Msg.GetSandboxes()) != 0 || len(snapshots.Msg.GetSnapshots()) != 0 || len(volumes.Msg.GetVolumes()) != 0 ||
		len(keys.Msg.GetApiKeys()) != 1 || len(tenants.Msg.GetTenants()) != 1 || tenants.Msg.GetTenants()[0].GetName() != "rival" {
		t.Errorf("another tenant lists %v %v %v %v %v", sandboxes.Msg, snapshots.Msg, volumes.Msg, keys.Msg, tenants.Msg)
	}

	// The same names, the same key and the same volume are free for another.
	again, err := theirs.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "web", IdempotencyKey: "k"}))
	check(t, err)
	if again.Msg.GetSandbox().GetSandboxId() == id {
		t.Error("an idempotency key got another tenant's sandbox")
	}
	_, err = theirs.CreateVolume(t.Context(), connect.NewRequest(&brokerv1.CreateVolumeRequest{Name: "data"}))
	check(t, err)
	absent, err := theirs.DeleteVolume(t.Context(), connect.NewRequest(&brokerv1.DeleteVolumeRequest{Name: "data"}))
	check(t, err)
	left, err := ours.ListVolumes(t.Context(), connect.NewRequest(&brokerv1.ListVolumesRequest{}))
	check(t, err)
	if absent.Msg.GetAlreadyAbsent() || len(left.Msg.GetVolumes()) != 1 || left.Msg.GetVolumes()[0].GetVolume().GetName() != "data" || left.Msg.GetVolumes()[0].GetTenant() != "acme" {
		t.Errorf("acme's volumes are %v", left.Msg)
	}
	_, err = o.local.CreateVolume(t.Context(), connect.NewRequest(&brokerv1.CreateVolumeRequest{Name: "tenant.acme.data"}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	_, err = o.local.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
		Mounts: []*providerv1.Mount{{Target: "/d", Source: &providerv1.Mount_Volume{Volume: "tenant.acme.data"}}},
	}}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)

	// Nobody acts for a tenant that is not theirs, whether there is one or not.
	var says []string
	for _, tenant := range []string{"acme", "nobody"} {
		_, err = theirs.ListSandboxes(t.Context(), in(tenant, &brokerv1.ListSandboxesRequest{}))
		says = append(says, strings.ReplaceAll(reason(t, err, insufficient).Message, tenant, "T"))
	}
	if says[0] != says[1] {
		t.Errorf("a tenant can be guessed: %q", says)
	}
	all, err := o.local.ListSandboxes(t.Context(), in(authz.AllTenants, &brokerv1.ListSandboxesRequest{}))
	check(t, err)
	if len(all.Msg.GetSandboxes()) != 2 {
		t.Errorf("an admin lists %v", all.Msg)
	}
}

func TestAKeyForOneTeam(t *testing.T) {
	o := newOffice(t, "acme")
	a, b := o.holder(t, "acme", brokerv1.Role_ROLE_USER, "label:team=a"), o.holder(t, "acme", brokerv1.Role_ROLE_USER, "label:team=b")
	made, err := a.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}))
	check(t, err)
	if made.Msg.GetSandbox().GetLabels()["team"] != "a" {
		t.Errorf("it has the labels %v", made.Msg.GetSandbox().GetLabels())
	}
	_, err = a.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: "n"}))
	check(t, err)
	_, err = b.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: "n"}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	_, err = b.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Name: "n", IdempotencyKey: "k"}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	_, err = b.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Labels: map[string]string{"team": "a"}}))
	reason(t, err, insufficient)
	_, err = a.ForkSandbox(t.Context(), connect.NewRequest(&brokerv1.ForkSandboxRequest{Sandbox: "n", Count: 1, Labels: map[string]string{"team": "b"}}))
	reason(t, err, insufficient)
	for filter, want := range map[string]int{"": 0, "b": 0, "a": 0} {
		req := &brokerv1.ListSandboxesRequest{}
		if filter != "" {
			req.Labels = map[string]string{"team": filter}
		}
		list, err := b.ListSandboxes(t.Context(), connect.NewRequest(req))
		check(t, err)
		if n := len(list.Msg.GetSandboxes()); n != want {
			t.Errorf("b lists %d with team=%q", n, filter)
		}
	}
	_, err = a.CreateVolume(t.Context(), connect.NewRequest(&brokerv1.CreateVolumeRequest{Name: "data"}))
	check(t, err)
	_, err = b.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Spec: &providerv1.SandboxSpec{
		Mounts: []*providerv1.Mount{{Target: "/d", Source: &providerv1.Mount_Volume{Volume: "data"}}},
	}}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND)
	res, err := b.DeleteVolume(t.Context(), connect.NewRequest(&brokerv1.DeleteVolumeRequest{Name: "data"}))
	check(t, err)
	if !res.Msg.GetAlreadyAbsent() {
		t.Error("b deleted a's volume")
	}
	elsewhere := o.holder(t, "acme", brokerv1.Role_ROLE_USER, "provider=other")
	_, err = elsewhere.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	reason(t, err, insufficient)
	_, err = elsewhere.GetSandbox(t.Context(), connect.NewRequest(&brokerv1.GetSandboxRequest{Sandbox: "n"}))
	reason(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
}

func TestHostFoldersAreTheAdmins(t *testing.T) {
	o := newOffice(t)
	spec := &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{Target: "/h", Source: &providerv1.Mount_HostPath{HostPath: "/root"}}}}
	for role := range letters {
		c := o.holder(t, "default", role)
		_, err := c.PlanSandbox(t.Context(), connect.NewRequest(&brokerv1.PlanSandboxRequest{Create: &brokerv1.CreateSandboxRequest{Spec: spec}}))
		if refused := fault.Has(err, insufficient); refused == (role == brokerv1.Role_ROLE_ADMIN) {
			t.Errorf("plan by %v: %v", role, err)
		}
		if role == brokerv1.Role_ROLE_AUDITOR {
			continue
		}
		_, err = c.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{Spec: spec}))
		if refused := fault.Has(err, insufficient); refused == (role == brokerv1.Role_ROLE_ADMIN) {
			t.Errorf("create by %v: %v", role, err)
		}
	}
}
