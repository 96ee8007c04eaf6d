package state

import (
	"context"
	"errors"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Fault is what a caller of the broker is told of an error of a Store: trouble with
// the broker's own state, because of which nothing was sent to a provider. What the
// store refuses for a tenant's limits is told as it is. Fault(nil) is nil.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.From(err).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "the broker's state: %w", err).
		WithEffect(providerv1.Effect_EFFECT_NONE)
}
