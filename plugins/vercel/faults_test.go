package vercel_test

import (
	"errors"
	"io"
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
		Request: newRequest, Creating: creating, Writing: "/v2/sandboxes/sessions/*/fs/write",
		Printing: [2]string{"/v2/sandboxes/sessions/*/cmd", "/v2/sandboxes/sessions/*/cmd/*/logs"},
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
