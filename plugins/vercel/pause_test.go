package vercel_test

import (
	"testing"
	"time"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (p plugin) pause(box *providerv1.SandboxRef) {
	p.T.Helper()
	resp, err := p.PauseSandbox(p.Ctx, &providerv1.PauseSandboxRequest{Sandbox: box})
	if sb := resp.GetSandbox(); err != nil || sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_PAUSED || !sb.GetKept().GetDisk() {
		p.T.Fatalf("PauseSandbox answers %v, %v: want PAUSED with its disk", resp, err)
	}
}

func (p plugin) resume(box *providerv1.SandboxRef) *providerv1.Sandbox {
	p.T.Helper()
	resp, err := p.ResumeSandbox(p.Ctx, &providerv1.ResumeSandboxRequest{Sandbox: box})
	if err != nil || resp.GetSandbox().GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		p.T.Fatalf("ResumeSandbox answers %v, %v: want RUNNING", resp, err)
	}
	return resp.GetSandbox()
}

// TestOldHandleAfterResume: a process that knows nothing, with a handle from before
// the pause, finds the session that there is now; and the end of the lifetime stays.
func TestOldHandleAfterResume(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	made, err := p.CreateSandbox(p.Ctx, newRequest())
	if err != nil {
		t.Fatal(err)
	}
	box := &providerv1.SandboxRef{SandboxId: made.GetSandbox().GetIdentity().GetSandboxId(), Handle: made.GetSandbox().GetHandle()}
	p.Run(box, "sh", "-c", "echo kept > /tmp/file")
	p.pause(box)
	sb := p.resume(box)
	const tolerance = 30 * time.Second // starting takes some of it
	if moved := sb.GetExpiresAt().AsTime().Sub(made.GetSandbox().GetExpiresAt().AsTime()); moved.Abs() > tolerance {
		t.Errorf("the end of the lifetime has moved by %s", moved)
	}
	next := newPlugin(t, v, "", nil)
	if out, exit := next.Run(box, "cat", "/tmp/file"); out != "kept\n" || exit.GetCode() != 0 {
		t.Errorf("with an old handle a command prints %q and ends with %v", out, exit)
	}
	other := newPlugin(t, v, "", nil)
	list, err := other.ListFiles(other.Ctx, &providerv1.ListFilesRequest{Sandbox: box, Path: "/tmp"})
	if err != nil || len(list.GetFiles()) == 0 {
		t.Errorf("with an old handle files are %v, %v", list, err)
	}
}

// TestCommandsEndWithPause: a command that ran has died with the machine.
func TestCommandsEndWithPause(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	id := p.Start(box, "sleep", "600")
	p.pause(box)
	p.resume(box)
	p.DiedWithSandbox(box, id)
}

// TestPauseThatFails: the sandbox runs on, and one that is stopped afterwards at the
// vendor is not said to be paused unless it was to be.
func TestPauseThatFails(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	inject(t, v, simulator.Fault{Method: "PATCH", Path: "/v2/sandboxes/*", Kind: simulator.FaultStatus, Status: 503})
	_, err := p.PauseSandbox(p.Ctx, &providerv1.PauseSandboxRequest{Sandbox: box})
	providertest.Refused(t, "PauseSandbox", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/stop", Kind: simulator.FaultLost})
	_, err = p.PauseSandbox(p.Ctx, &providerv1.PauseSandboxRequest{Sandbox: box})
	providertest.Refused(t, "PauseSandbox whose answer is lost", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown)
	p.pause(box)
	inject(t, v, simulator.Fault{Method: "PATCH", Path: "/v2/sandboxes/*", Kind: simulator.FaultStatus, Status: 503})
	_, err = p.ResumeSandbox(p.Ctx, &providerv1.ResumeSandboxRequest{Sandbox: box})
	providertest.Refused(t, "ResumeSandbox", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	p.resume(box)
}
