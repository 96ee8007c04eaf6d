package upstream

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	effectNone    = providerv1.Effect_EFFECT_NONE
	effectUnknown = providerv1.Effect_EFFECT_UNKNOWN
)

// Explain turns an error of a client into one of the contract, and none into none.
// changes says that the call could have changed something.
func Explain(err error, changes bool) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	effect := effectNone
	if changes {
		effect = effectUnknown
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "the vendor did not answer in time").WithEffect(lostEffect(err, effect))
	case errors.Is(err, context.Canceled):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CANCELED, "the call was cancelled before the vendor answered").WithEffect(lostEffect(err, effect))
	}
	var refused *Error
	if errors.As(err, &refused) {
		return answered(refused, effect)
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the vendor cannot be reached: %w", err).WithEffect(lostEffect(err, effect))
}

// lostEffect is none for a request that was never sent.
func lostEffect(err error, effect providerv1.Effect) providerv1.Effect {
	var lost *LostError
	if errors.As(err, &lost) && !lost.Sent {
		return effectNone
	}
	return effect
}

// answered is for what the vendor said itself. effect is for answers after which it
// may have done what was asked all the same.
func answered(e *Error, effect providerv1.Effect) *fault.Error {
	say := func(reason providerv1.ErrorReason, effect providerv1.Effect) *fault.Error {
		return fault.New(reason, "%w", e).With("status", strconv.Itoa(e.Status)).With("code", e.Code).WithEffect(effect)
	}
	switch {
	case e.Undocumented():
		return say(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, effect)
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden && e.InvalidToken:
		return say(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, effectNone)
	case e.Status == http.StatusForbidden:
		return say(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT, effectNone)
	case e.Status == http.StatusPaymentRequired:
		return say(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, effectNone)
	case e.Status == http.StatusTooManyRequests:
		return say(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, effectNone).WithRetryAfter(e.RetryAfter)
	case e.Status >= http.StatusInternalServerError:
		return say(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, effect).WithRetryAfter(e.RetryAfter)
	default:
		return say(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, effectNone)
	}
}
