package vercel_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
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

// creating is where sandboxes are made.
const creating = "/v3/sandboxes"

func TestRefusalsOfTheVendor(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, t.TempDir(), nil)
	for _, tc := range []struct {
		status int
		reason providerv1.ErrorReason
		effect providerv1.Effect
	}{
		{429, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, none},
		{402, providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, none},
		{401, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, none},
		{403, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT, none},
		{400, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, none},
		{422, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, none},
		{409, providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS, unknown},
		{500, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown},
		{503, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown},
	} {
		inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultStatus, Status: tc.status, RetryAfter: 7})
		_, err := p.CreateSandbox(p.Ctx, newRequest())
		f := providertest.Refused(t, "CreateSandbox", err, tc.reason, tc.effect)
		if again := tc.status == 429 || tc.status >= 500; again && f.RetryAfter != 7*time.Second {
			t.Errorf("status %d: retry after %s: want the 7 s that the vendor said", tc.status, f.RetryAfter)
		}
		if strings.Contains(err.Error(), simulator.DefaultToken) {
			t.Errorf("the error has the token: %v", err)
		}
	}
	p.Create(newRequest())
}

// TestLostAnswer: what the vendor made without an answer is found by its key, and
// the same request answers it.
func TestLostAnswer(t *testing.T) {
	v := newVendor(t)
	state := t.TempDir()
	p := newPlugin(t, v, state, nil)
	inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultLost})
	req := newRequest()
	_, err := p.CreateSandbox(p.Ctx, req)
	providertest.Refused(t, "CreateSandbox whose answer is lost", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown)
	found, err := p.GetSandbox(p.Ctx, providertest.ByKey(req.GetOperation().GetIdempotencyKey()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.CreateSandbox(p.Ctx, req)
	if err != nil || again.GetSandbox().GetVendorId() != found.GetSandbox().GetVendorId() {
		t.Errorf("the same request answers %v, %v: want %s", again.GetSandbox().GetVendorId(), err, found.GetSandbox().GetVendorId())
	}
}

// TestUnansweredKeyIsNotDenied: a request that may still take effect is not said to
// have made nothing, by the next process either, until its time is over.
func TestUnansweredKeyIsNotDenied(t *testing.T) {
	v := newVendor(t)
	state := t.TempDir()
	p := newPlugin(t, v, state, nil)
	inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultRefused})
	req := newRequest()
	key := req.GetOperation().GetIdempotencyKey()
	_, err := p.CreateSandbox(p.Ctx, req)
	providertest.Refused(t, "CreateSandbox whose connection broke", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown)
	next := newPlugin(t, v, state, nil)
	for name, p := range map[string]plugin{"the process that sent it": p, "the next process": next} {
		_, err := p.GetSandbox(p.Ctx, providertest.ByKey(key))
		f := providertest.Refused(t, "GetSandbox by the key, of "+name, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
		if f.RetryAfter <= 0 {
			t.Errorf("%s does not say when to ask again", name)
		}
	}
	t.Log("when a request cannot be under way any more, its key made nothing")
	later := newPlugin(t, v, state, map[string]any{"settle_after": "1s"})
	for {
		_, err = later.GetSandbox(later.Ctx, providertest.ByKey(key))
		if !strings.Contains(err.Error(), "may still make") {
			break
		}
	}
	providertest.Refused(t, "GetSandbox by the key, later", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
	_, err = later.CreateSandbox(later.Ctx, req)
	providertest.Refused(t, "CreateSandbox with a key that was denied", err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, none)
}

// TestDownIsNoEffect: a vendor that cannot be connected to has not been asked.
func TestDownIsNoEffect(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	p := newPlugin(t, vendor{url: down.URL}, t.TempDir(), nil)
	req := newRequest()
	_, err := p.CreateSandbox(p.Ctx, req)
	providertest.Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	probe, err := p.Probe(p.Ctx, &providerv1.ProbeRequest{})
	if err != nil || probe.GetReady() || probe.GetChecks()[0].GetRemedy() == "" {
		t.Errorf("Probe answers %v, %v: want not ready, and a remedy", probe, err)
	}
}

// TestStreamBreaks: output is whole although the vendor's stream breaks in the
// middle, again and again.
func TestStreamBreaks(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd", Kind: simulator.FaultCut, Bytes: 40_000})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd/*/logs", Kind: simulator.FaultCut, Bytes: 60_000})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd/*/logs", Kind: simulator.FaultStatus, Status: 503})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd/*/logs", Kind: simulator.FaultCut, Bytes: 300_000})
	out, exit := p.Run(box, "sh", "-c", "seq 1 60000; exit 7")
	if exit.GetCode() != 7 || !strings.HasPrefix(out, "1\n2\n3\n") || !strings.HasSuffix(out, "\n59999\n60000\n") || strings.Count(out, "\n") != 60000 {
		t.Errorf("%d bytes with %d lines came, exit %v: want 60000 lines and exit code 7", len(out), strings.Count(out, "\n"), exit)
	}
}

// TestLostAcknowledgement: a command goes on although word of what was taken over
// was lost.
func TestLostAcknowledgement(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/fs/write", Kind: simulator.FaultStatus, Status: 429, Times: 2})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/fs/write", Kind: simulator.FaultRefused})
	out, exit := p.Run(box, "seq", "1", "400000")
	if exit.GetCode() != 0 || !strings.HasSuffix(out, "\n399999\n400000\n") || strings.Count(out, "\n") != 400000 {
		t.Errorf("%d bytes with %d lines came, exit %v: want 400000 lines and exit code 0", len(out), strings.Count(out, "\n"), exit)
	}
}

// TestEviction: a command whose machine is taken away died with its sandbox, and the
// sandbox says so.
func TestEviction(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	req := newRequest()
	box := p.Create(req)
	id := p.Start(box, "sleep", "600")
	name := "sandbar-" + req.GetOperation().GetIdempotencyKey()
	if ok, err := v.Evict(p.Ctx, name); err != nil || !ok {
		t.Fatalf("evict %s: %t, %v", name, ok, err)
	}
	var exit *providerv1.ExitStatus
	for exit == nil { // how it ended is known, and whether all that it printed arrived is not
		resp, err := p.GetExec(p.Ctx, &providerv1.GetExecRequest{Sandbox: box, ExecId: id})
		if err != nil {
			t.Fatal(err)
		}
		exit = resp.GetExec().GetExit()
	}
	if exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX || exit.GetSignal() != "SIGKILL" {
		t.Errorf("the command ended with %v: want SIGKILL with cause SANDBOX", exit)
	}
	sb, err := p.GetSandbox(p.Ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: box}})
	if err != nil || sb.GetSandbox().GetState() != providerv1.SandboxState_SANDBOX_STATE_FAILED || sb.GetSandbox().GetStatusReason() == "" {
		t.Errorf("the sandbox is %v, %v: want FAILED with a reason", sb, err)
	}
	_, err = p.StartExec(p.Ctx, &providerv1.StartExecRequest{
		Sandbox: box, ExecId: providertest.NewID("exe"), RequestDigest: req.GetOperation().GetRequestDigest(), Spec: &providerv1.ExecSpec{Argv: []string{"true"}},
	})
	providertest.Refused(t, "StartExec in it", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, none)
}

// TestSlowVendor: a call ends by its deadline, and says that it may have done
// something.
func TestSlowVendor(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, t.TempDir(), nil)
	inject(t, v, simulator.Fault{Path: creating, Kind: simulator.FaultSlow, DelayMS: 600_000})
	ctx, cancel := context.WithTimeout(p.Ctx, 2*time.Second)
	defer cancel()
	_, err := p.CreateSandbox(ctx, newRequest())
	providertest.Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, unknown)
}

// TestFileCallsBreak: what was done to files is known although the vendor's stream
// breaks, and a file whose content is cut is never taken for whole.
func TestFileCallsBreak(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	if _, exit := p.Run(box, "sh", "-c", "mkdir /tmp/many; cd /tmp/many; for i in $(seq 1100 1999); do echo $i > f$i; done; seq 1 20000 > /tmp/long"); exit.GetCode() != 0 {
		t.Fatalf("exit %v", exit)
	}
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd", Kind: simulator.FaultCut, Bytes: 30_000})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd/*/logs", Kind: simulator.FaultStatus, Status: 503})
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/cmd/*/logs", Kind: simulator.FaultCut, Bytes: 20_000})
	list, err := p.ListFiles(p.Ctx, &providerv1.ListFilesRequest{Sandbox: box, Path: "/tmp/many"})
	if err != nil || len(list.GetFiles()) != 900 || list.GetFiles()[899].GetPath() != "/tmp/many/f1999" {
		t.Errorf("%d files are listed, %v: want 900", len(list.GetFiles()), err)
	}
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/fs/read", Kind: simulator.FaultCut, Bytes: 50_000})
	stream, err := p.ReadFile(p.Ctx, &providerv1.ReadFileRequest{Sandbox: box, Path: "/tmp/long"})
	for err == nil {
		_, err = stream.Recv()
	}
	providertest.Refused(t, "ReadFile of a file that is cut", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	inject(t, v, simulator.Fault{Path: "/v2/sandboxes/sessions/*/fs/write", Kind: simulator.FaultStatus, Status: 503})
	upload, err := p.WriteFile(p.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range []*providerv1.WriteFileRequest{
		{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: box, Path: "/tmp/many/f1100"}}},
		{Frame: &providerv1.WriteFileRequest_Data{Data: []byte("new")}},
		{Frame: &providerv1.WriteFileRequest_Commit{}},
	} {
		if err := upload.Send(frame); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	_, err = upload.CloseAndRecv()
	providertest.Refused(t, "WriteFile whose content does not arrive", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	if out, _ := p.Run(box, "cat", "/tmp/many/f1100"); out != "1100\n" {
		t.Errorf("the file is %q: want what it was", out)
	}
}
