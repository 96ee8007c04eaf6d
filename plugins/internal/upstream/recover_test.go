package upstream

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestRecover(t *testing.T) {
	var refs []*providerv1.SandboxRef
	for _, id := range []string{"there", "gone", "unknown"} {
		refs = append(refs, &providerv1.SandboxRef{SandboxId: id})
	}
	got := Recover(refs, func(req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
		switch id := req.GetSandbox().GetSandboxId(); id {
		case "there":
			return &providerv1.Sandbox{VendorId: "v_1"}, nil
		case "gone":
			return nil, NotFound(id)
		default:
			return nil, Explain(&LostError{Sent: true, Err: errors.New("broken")}, false)
		}
	})
	want := []providerv1.RecoveryOutcome{
		providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE, providerv1.RecoveryOutcome_RECOVERY_OUTCOME_UNKNOWN,
	}
	for i, r := range got.GetRecoveries() {
		if r.GetSandboxId() != refs[i].GetSandboxId() || r.GetOutcome() != want[i] {
			t.Errorf("recovery %d is %v: want %s of %s", i, r, want[i], refs[i].GetSandboxId())
		}
	}
	if got.GetRecoveries()[0].GetSandbox().GetVendorId() != "v_1" || got.GetRecoveries()[2].GetCause() == nil {
		t.Errorf("the answer is %v: want the sandbox that is there, and why nothing is known of the last", got)
	}
}

func TestEach(t *testing.T) {
	var calls atomic.Int64
	broken := errors.New("broken")
	err := Each(100, func(i int) error {
		calls.Add(1)
		if i == 42 {
			return broken
		}
		return nil
	})
	if calls.Load() != 100 || !errors.Is(err, broken) {
		t.Errorf("%d calls, %v: want 100, and the error of one", calls.Load(), err)
	}
}

func TestMadeNothing(t *testing.T) {
	for _, tc := range []struct {
		left   time.Duration
		reason providerv1.ErrorReason
		wait   time.Duration
	}{
		{0, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, 0},
		{time.Second, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, time.Second},
		{time.Minute, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, askAgain},
	} {
		f := MadeNothing("KEY", tc.left)
		if f.Reason != tc.reason || f.RetryAfter != tc.wait || f.Effect != effectNone {
			t.Errorf("with %s left it is %v: want %s, to be asked again after %s", tc.left, f, fault.Name(tc.reason), tc.wait)
		}
	}
}

func TestNotRunning(t *testing.T) {
	f := NotRunning("sbx_1", &providerv1.Sandbox{State: providerv1.SandboxState_SANDBOX_STATE_PAUSED, StatusReason: "somebody did"})
	if f.Reason != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING || f.Metadata["state"] != "PAUSED" || f.Metadata["sandbox_id"] != "sbx_1" {
		t.Errorf("it is %v with %v: want what state which sandbox is in", f, f.Metadata)
	}
}
