package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestEveryReasonIsComplete fails when a reason is added without its table row.
func TestEveryReasonIsComplete(t *testing.T) {
	for number, name := range providerv1.ErrorReason_name {
		reason := providerv1.ErrorReason(number)
		if reason == providerv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			continue
		}
		info := fault.InfoOf(reason)
		if info.GetRetry() == 0 || info.GetEffect() == 0 {
			t.Errorf("%s: incomplete reason_info %v", name, info)
		}
		if c := fault.CodeOf(reason); c == codes.OK || c == codes.Unknown {
			t.Errorf("%s: code %v from %q", name, c, info.GetCode())
		}
		if fault.Reason(fault.Name(reason)) != reason {
			t.Errorf("%s: name %q does not round-trip", name, fault.Name(reason))
		}
	}
}

func TestStatusRoundTrip(t *testing.T) {
	for _, want := range []*fault.Error{
		fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", "sbx_1").With("sandbox_id", "sbx_1"),
		fault.Field("spec.resources.pids", "-1", "want a number from 1 to 4194304"),
		fault.Unsupported("compute.gpu"),
		fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "slow down").WithRetryAfter(3 * time.Second),
		fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "refused").WithEffect(providerv1.Effect_EFFECT_NONE),
	} {
		t.Run(fault.Name(want.Reason), func(t *testing.T) {
			got := fault.From(want.GRPCStatus().Err())
			if !got.Wire {
				t.Error("an error from the wire must say so")
			}
			opts := []cmp.Option{cmpopts.IgnoreUnexported(fault.Error{}), cmpopts.IgnoreFields(fault.Error{}, "Wire"), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(want, got, opts...); diff != "" {
				t.Errorf("status round trip (-want +got):\n%s", diff)
			}
			viaProto := fault.FromProto(want.ToProto())
			if diff := cmp.Diff(want, viaProto, append(opts, cmpopts.IgnoreFields(fault.Error{}, "Fields"))...); diff != "" {
				t.Errorf("message round trip (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFromWithoutInfoAssumesTheWorst(t *testing.T) {
	for _, tc := range []struct {
		err    error
		reason providerv1.ErrorReason
	}{
		{status.Error(codes.Unimplemented, "unknown method"), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
		{status.Error(codes.Unavailable, "EOF"), providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE},
		{fmt.Errorf("dial: %w", context.DeadlineExceeded), providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
		{errors.New("anything"), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG},
	} {
		got := fault.From(tc.err)
		if got.Reason != tc.reason || got.Wire || got.Effect != providerv1.Effect_EFFECT_UNKNOWN || got.Elsewhere() {
			t.Errorf("From(%v) = %v wire=%v effect=%v elsewhere=%v", tc.err, got.Reason, got.Wire, got.Effect, got.Elsewhere())
		}
	}
}

func TestCauseSurvivesOnThisSide(t *testing.T) {
	e := fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "read: %w", context.Canceled)
	if !errors.Is(e, context.Canceled) || !errors.Is(e.With("a", "b"), context.Canceled) {
		t.Error("cause lost")
	}
	if !fault.Has(fmt.Errorf("outer: %w", e), providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG) {
		t.Error("Has does not see through wrapping")
	}
}
