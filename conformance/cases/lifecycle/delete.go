package lifecycle

import (
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func deletion() []engine.Case {
	return []engine.Case{
		{
			ID: "delete/idempotent", Title: "Deleting what is not there is a success that says so.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-002"}, Cost: 3,
			Run: deleteIdempotent,
		},
		{
			ID: "delete/nothing-works-after", Title: "After its deletion a sandbox is not found, by no call.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-001"}, Kinds: own, Cost: 3,
			Run: nothingWorksAfter,
		},
		{
			ID: "delete/ends-processes", Title: "Deleting a sandbox ends its processes.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-001"}, Needs: []string{"mount.volume"}, Cost: 10,
			Run: endsProcesses,
		},
		{
			ID: "delete/while-creating", Title: "A sandbox can be deleted while it is being created.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-003"}, Kinds: own, Cost: 5,
			Run: whileCreating,
		},
		{
			ID: "delete/paused", Title: "A paused sandbox can be deleted.",
			Profile: engine.Core, Requirements: []string{"REQ-DEL-003"}, Needs: []string{"pause"}, Cost: 5,
			Run: func(t *engine.T) {
				box := stage.Create(t)
				pause(t, box)
				box.Delete()
				_, err := box.Client().GetSandbox(t.Context(), box.ByRef())
				gone(t, "GetSandbox after the deletion of a paused sandbox", err)
			},
		},
	}
}

func deleteIdempotent(t *engine.T) {
	box := stage.Create(t)
	if box.Delete().GetAlreadyAbsent() {
		t.Errorf("deleting a sandbox that runs says already_absent")
	}
	if !box.Delete().GetAlreadyAbsent() {
		t.Errorf("deleting it again does not say already_absent")
	}
	never := &providerv1.SandboxRef{SandboxId: stage.NewID("sbx")}
	resp, err := t.Client().DeleteSandbox(t.Context(), &providerv1.DeleteSandboxRequest{Sandbox: never})
	stage.OK(t, "DeleteSandbox of what was never made", err)
	if !resp.GetAlreadyAbsent() {
		t.Errorf("deleting what was never made does not say already_absent")
	}
}

func nothingWorksAfter(t *engine.T) {
	box := stage.Create(t)
	cmd := box.Start(stage.Argv("sleep", "60"))
	box.Delete()
	client := box.Client()
	_, err := client.GetSandbox(t.Context(), box.ByRef())
	gone(t, "GetSandbox after DeleteSandbox", err)
	_, err = client.StartExec(t.Context(), box.NewExec(stage.Argv("true")))
	gone(t, "StartExec after DeleteSandbox", err)
	if t.Has("usage") {
		_, err = client.GetUsage(t.Context(), &providerv1.GetUsageRequest{Sandbox: box.Ref})
		gone(t, "GetUsage after DeleteSandbox", err)
	}
	if t.Has("pause") {
		_, err = client.PauseSandbox(t.Context(), &providerv1.PauseSandboxRequest{Sandbox: box.Ref, Minimum: stage.Values(t, box).Least("pause")})
		gone(t, "PauseSandbox after DeleteSandbox", err)
	}
	if left := stage.ListAll(t, client, t.Owner(), 0); len(left) > 0 {
		t.Errorf("after DeleteSandbox the owner has %q", ids(left))
	}
	// How its command ended may still be told; that it runs may not.
	resp, err := client.GetExec(t.Context(), &providerv1.GetExecRequest{Sandbox: box.Ref, ExecId: cmd.ID})
	if err == nil && resp.GetExec().GetState() == providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("after DeleteSandbox its command is said to run")
	}
}

// endsProcesses has a process write to a volume, and looks at the volume from
// another sandbox when the process should have ended.
func endsProcesses(t *engine.T) {
	volume := "suite-" + strings.TrimPrefix(stage.NewID("v"), "v_")
	_, err := t.Client().CreateVolume(t.Context(), &providerv1.CreateVolumeRequest{Owner: t.Owner(), Name: volume})
	stage.OK(t, "CreateVolume", err)
	mounted := func(req *providerv1.CreateSandboxRequest) {
		req.Spec.Mounts = []*providerv1.Mount{{
			Target: "/mnt/suite", Mode: providerv1.MountMode_MOUNT_MODE_RW, Source: &providerv1.Mount_Volume{Volume: volume},
		}}
	}
	box := stage.Create(t, mounted)
	a := box.Start(stage.Script("while :; do echo x >> /mnt/suite/log; echo x; sleep 0.05; done")).Attach()
	a.Until("x\nx\n")
	box.Delete()
	witness := stage.Create(t, mounted)
	before := witness.Line("wc -c < /mnt/suite/log")
	witness.Ticks(10)
	if after := witness.Line("wc -c < /mnt/suite/log"); after != before {
		t.Errorf("a process of a sandbox that was deleted goes on: what it writes grew from %s to %s bytes", before, after)
	}
}

// whileCreating deletes again and again until creating has answered.
func whileCreating(t *engine.T) {
	req := stage.NewRequest(t)
	created := make(chan error, 1)
	go func() {
		_, err := t.Client().CreateSandbox(t.Context(), req)
		created <- err
	}()
	remove := &providerv1.DeleteSandboxRequest{Sandbox: &providerv1.SandboxRef{SandboxId: req.GetIdentity().GetSandboxId()}}
	for answered := false; !answered; {
		_, err := t.Client().DeleteSandbox(t.Context(), remove)
		stage.OK(t, "DeleteSandbox while it is being created", err)
		select {
		case err := <-created:
			answered = true
			if err != nil {
				stage.ProperError(t, "CreateSandbox of what is deleted meanwhile", err)
				t.Step("creating answered %s", fault.Name(fault.From(err).Reason))
			}
		case <-time.After(5 * time.Millisecond):
		}
	}
	_, err := t.Client().DeleteSandbox(t.Context(), remove)
	stage.OK(t, "DeleteSandbox", err)
	_, err = t.Client().GetSandbox(t.Context(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: remove.GetSandbox()}})
	gone(t, "GetSandbox after DeleteSandbox", err)
	if left := stage.ListAll(t, t.Client(), t.Owner(), 0); len(left) > 0 {
		t.Errorf("after DeleteSandbox the owner has %q", ids(left))
	}
}
