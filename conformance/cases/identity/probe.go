package identity

import (
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func probe() []engine.Case {
	return []engine.Case{
		{
			ID: "probe/says-why", Title: "Probe says that sandboxes can be made, or which check failed and what to do; and that is true.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-007"}, Kinds: own, Cost: 2,
			Run: saysWhy,
		},
		{
			ID: "probe/wrong-credentials", Title: "With wrong credentials Probe answers not ready, with a check that failed and a remedy.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-007"}, Kinds: own,
			Run: wrongCredentials,
		},
	}
}

// sound checks what each answer of Probe has to have.
func sound(t *engine.T, resp *providerv1.ProbeResponse) {
	failed := 0
	for _, c := range resp.GetChecks() {
		if c.GetName() == "" || c.GetDetail() == "" {
			t.Errorf("check %q says %q: want a name, and what was found in one sentence", c.GetName(), c.GetDetail())
		}
		switch c.GetStatus() {
		case providerv1.ProbeStatus_PROBE_STATUS_OK:
			if c.GetRemedy() != "" {
				t.Errorf("check %s is OK and has remedy %q: want none", c.GetName(), c.GetRemedy())
			}
		case providerv1.ProbeStatus_PROBE_STATUS_DEGRADED, providerv1.ProbeStatus_PROBE_STATUS_FAILED:
			if strings.TrimSpace(c.GetRemedy()) == "" {
				t.Errorf("check %s is %s without a remedy: want what an operator can do", c.GetName(), c.GetStatus())
			}
			if c.GetStatus() == providerv1.ProbeStatus_PROBE_STATUS_FAILED {
				failed++
			}
		default:
			t.Errorf("check %s has status %s: want OK, DEGRADED or FAILED", c.GetName(), c.GetStatus())
		}
	}
	if !resp.GetReady() && failed == 0 {
		t.Errorf("Probe says not ready, and no check of %d failed: want why", len(resp.GetChecks()))
	}
}

func saysWhy(t *engine.T) {
	resp, err := t.Client().Probe(t.Context(), &providerv1.ProbeRequest{})
	stage.OK(t, "Probe", err)
	sound(t, resp)
	_, err = t.Client().CreateSandbox(t.Context(), stage.NewRequest(t))
	if made := err == nil; made != resp.GetReady() {
		t.Errorf("Probe says ready = %v, and creating a sandbox answers %s: want the one to follow from the other", resp.GetReady(), subject.Describe(err))
	}
}

// wrongCredentials tries each secret with a value that no vendor gave out.
func wrongCredentials(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	client := t.ClientOf(inst)
	found := false
	for _, s := range inst.Describe.GetSettings() {
		if !s.GetSecret() {
			continue
		}
		found = true
		_, err := client.Configure(t.Context(), change(inst, func(req *providerv1.ConfigureRequest) {
			req.Secrets[s.GetName()] = []byte("invalid")
		}))
		if err != nil {
			// Refused before it is in force, which is as good.
			_ = stage.Refused(t, "Configure with a wrong "+s.GetName(), err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID,
				providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
			continue
		}
		resp, err := client.Probe(t.Context(), &providerv1.ProbeRequest{})
		stage.OK(t, "Probe with a wrong "+s.GetName(), err)
		if resp.GetReady() {
			t.Errorf("with a wrong %s Probe says ready: want not ready, with a check that failed", s.GetName())
		}
		sound(t, resp)
	}
	if !found {
		t.Skip(engine.NotDeclared, "a setting that is a secret")
	}
}
