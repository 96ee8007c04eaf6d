package daytona_test

import (
	"strings"
	"testing"
	"time"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	none    = providerv1.Effect_EFFECT_NONE
	unknown = providerv1.Effect_EFFECT_UNKNOWN
)

func inject(t *testing.T, v vendor, f simulator.Fault) {
	t.Helper()
	if err := v.Inject(f); err != nil {
		t.Fatal(err)
	}
}

// Where sandboxes are made, and what commands print comes from.
const creating, logs = "/sandbox", "/toolbox/*/process/session/*/command/*/logs"

func TestFaults(t *testing.T) {
	providertest.Faults(t, providertest.Vendor{
		Start: func(t *testing.T) string {
			t.Helper()
			return newVendor(t).url
		},
		Plugin: func(t *testing.T, url, state string, more map[string]any) providertest.Plugin {
			t.Helper()
			return newPlugin(t, vendor{url: url}, state, more).Plugin
		},
		Request: providertest.NewRequest, Creating: creating, Writing: "/toolbox/*/files/bulk-upload",
		Printing: [2]string{logs, logs},
	})
}

func TestRefusalsOfTheVendor(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, t.TempDir(), nil)
	for _, tc := range []struct {
		status int
		reason providerv1.ErrorReason
		effect providerv1.Effect
	}{
		{429, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, none},
		{401, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, none},
		{403, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT, none},
		{400, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, none},
		{404, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, none},
		{422, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, none},
		{409, providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS, unknown},
		{500, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown},
		{503, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown},
	} {
		inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultStatus, Status: tc.status, RetryAfter: 7})
		_, err := p.CreateSandbox(p.Ctx, providertest.NewRequest())
		f := providertest.Refused(t, "CreateSandbox", err, tc.reason, tc.effect)
		if again := tc.status == 429 || tc.status >= 500; again && f.RetryAfter != 7*time.Second {
			t.Errorf("status %d: retry after %s: want the 7 s that the vendor said", tc.status, f.RetryAfter)
		}
		if strings.Contains(err.Error(), simulator.DefaultKey) {
			t.Errorf("the error has the token: %v", err)
		}
	}
	p.Create(providertest.NewRequest())
}

// TestQuota: a limit of the organization's is not a bad request, although the vendor
// answers as if it were.
func TestQuota(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, t.TempDir(), nil)
	inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultStatus, Status: 400, Message: "Total CPU limit exceeded. Maximum allowed: 10."})
	_, err := p.CreateSandbox(p.Ctx, providertest.NewRequest())
	providertest.Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, none)
}

// TestNotStarted: what the vendor made and says that it could not start is taken back.
func TestNotStarted(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, t.TempDir(), nil)
	req := providertest.NewRequest()
	p.Create(req)
	inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultStatus, Status: 400, Message: "Sandbox failed to start: no runner"})
	next := newPlugin(t, v, t.TempDir(), nil) // it has not heard of the first
	_, err := next.CreateSandbox(next.Ctx, req)
	providertest.Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	_, err = next.GetSandbox(next.Ctx, providertest.ByKey(req.GetOperation().GetIdempotencyKey()))
	providertest.Refused(t, "GetSandbox by the key", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
}

// TestDeleteWaits: a sandbox that the vendor is at something else with is deleted when
// it is done.
func TestDeleteWaits(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	inject(t, v, simulator.Fault{Method: "DELETE", Path: "/sandbox/*", Kind: simulator.FaultStatus, Status: 409, Times: 3})
	resp, err := p.DeleteSandbox(p.Ctx, &providerv1.DeleteSandboxRequest{Sandbox: box})
	if err != nil || resp.GetAlreadyAbsent() {
		t.Fatalf("DeleteSandbox answers %v, %v: want that it was there", resp, err)
	}
	resp, err = p.DeleteSandbox(p.Ctx, &providerv1.DeleteSandboxRequest{Sandbox: box})
	if err != nil || !resp.GetAlreadyAbsent() {
		t.Errorf("again it answers %v, %v: want that it was not there", resp, err)
	}
}

// TestUsedExec: a command of an earlier process is not run again.
func TestUsedExec(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	id := p.Start(box, "sleep", "600")
	next := newPlugin(t, v, "", nil)
	_, err := next.StartExec(next.Ctx, &providerv1.StartExecRequest{
		Sandbox: box, ExecId: id, RequestDigest: providertest.NewRequest().GetOperation().GetRequestDigest(), Spec: &providerv1.ExecSpec{Argv: []string{"true"}},
	})
	providertest.Refused(t, "StartExec with the id", err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, none)
}

// TestSessionsGo: nothing of a command that has ended is kept at the vendor.
func TestSessionsGo(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(providertest.NewRequest())
	if out, _ := p.Run(box, "echo", "done"); out != "done\n" {
		t.Errorf("it prints %q", out)
	}
	for deadline := time.Now().Add(time.Minute); v.Sessions() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left", v.Sessions())
		}
	}
}
