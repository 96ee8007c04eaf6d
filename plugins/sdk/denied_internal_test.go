package sdk

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var (
	aKey   = strings.Repeat("A", 26)
	aMaker = &providerv1.CreateSandboxRequest{Operation: &providerv1.Operation{IdempotencyKey: aKey}}
	aAsker = &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: aKey}}
)

func nothing(context.Context, any) (any, error) {
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "nothing has that key")
}

// TestWhatAKeyMakesIsNotKnownYet: who cannot wait for it is told so.
func TestWhatAKeyMakesIsNotKnownYet(t *testing.T) {
	var d denied
	d.init()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.guard(t.Context(), aMaker, func(context.Context, any) (any, error) { return d.guard(ctx, aAsker, nothing) })
	got := fault.From(err)
	if got == nil || got.Reason != providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS || got.Effect != providerv1.Effect_EFFECT_NONE {
		t.Errorf("%+v: want OPERATION_IN_PROGRESS with effect none", got)
	}
	if len(d.uses) > 0 || len(d.keys) > 0 {
		t.Errorf("left: %v %v", d.uses, d.keys)
	}
}

// TestDeniedOrMade: of a key that is used and asked about at once, never both.
func TestDeniedOrMade(t *testing.T) {
	var wasDenied, wasMade int
	for range 2000 {
		var (
			d             denied
			made          atomic.Bool
			askErr, mkErr error
			both          sync.WaitGroup
		)
		d.init()
		both.Go(func() {
			_, mkErr = d.guard(t.Context(), aMaker, func(context.Context, any) (any, error) {
				made.Store(true)
				return nil, nil
			})
		})
		both.Go(func() {
			_, askErr = d.guard(t.Context(), aAsker, func(ctx context.Context, req any) (any, error) {
				if made.Load() {
					return nil, nil
				}
				return nothing(ctx, req)
			})
		})
		both.Wait()
		if (askErr == nil) != made.Load() || (mkErr == nil) != made.Load() {
			t.Fatalf("made: %t, CreateSandbox: %v, GetSandbox: %v", made.Load(), mkErr, askErr)
		}
		if made.Load() {
			wasMade++
		} else {
			wasDenied++
		}
	}
	t.Logf("made %d times, denied %d times", wasMade, wasDenied)
}
