package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestFault(t *testing.T) {
	if err := state.Fault(nil); err != nil {
		t.Errorf("of no error: %v", err)
	}
	disk := errors.New("the disk is full")
	refused := fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "the tenant has enough")
	for _, tc := range []struct {
		name   string
		err    error
		reason providerv1.ErrorReason
	}{
		{"the store's own", fmt.Errorf("insert: %w", disk), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{"the caller left", fmt.Errorf("insert: %w", context.Canceled), providerv1.ErrorReason_ERROR_REASON_CANCELED},
		{"the caller's time ended", fmt.Errorf("insert: %w", context.DeadlineExceeded), providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
		{"a limit", fmt.Errorf("insert: %w", refused), providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fault.From(state.Fault(tc.err))
			if f.Reason != tc.reason || f.Effect != providerv1.Effect_EFFECT_NONE {
				t.Errorf("reason %s and effect %s, want %s and none", f.Reason, f.Effect, tc.reason)
			}
		})
	}
	if err := state.Fault(disk); !errors.Is(err, disk) {
		t.Errorf("%v does not say what the store said", err)
	}
}
