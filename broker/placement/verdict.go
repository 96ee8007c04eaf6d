package placement

import (
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// After returns what a creation that ended with err says about the provider; took
// is how long it took. A caller's mistake says nothing, nor does what a provider
// says that it cannot do.
func (m Measurement) After(now time.Time, took time.Duration, err *fault.Error) Measurement {
	if err == nil {
		return m.Succeeded(now, took)
	}
	if err.Reason == providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED {
		return m.Throttled(now, err.RetryAfter)
	}
	if !blames(err.Reason) {
		return m
	}
	if err.RetryAfter > 0 {
		m = m.Throttled(now, err.RetryAfter)
	}
	return m.Failed(now)
}

// blames reports whether an error is the provider's fault: the same request might
// work at another one, or here at another time. The test of this file fails for a
// reason that it does not know.
func blames(reason providerv1.ErrorReason) bool {
	switch reason {
	case providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED,
		providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED,
		providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED,
		providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID,
		providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
		providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
		providerv1.ErrorReason_ERROR_REASON_DRAINING,
		providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED,
		providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING,
		providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED,
		providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
		providerv1.ErrorReason_ERROR_REASON_STATE_LOST,
		providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
		providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
		providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED:
		return true
	default:
		return false
	}
}
