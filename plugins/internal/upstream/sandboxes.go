package upstream

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// OwnerDigest stands for an owner at the vendor. It is short, and has no character
// that a label or a search could trip over.
func OwnerDigest(owner string) string {
	const enough = 18 // bytes: no two owners meet
	sum := sha256.Sum256([]byte(owner))
	return base64.RawURLEncoding.EncodeToString(sum[:enough])
}

// NotFound says that there is no such sandbox.
func NotFound(id string) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", id).With("sandbox_id", id)
}

// NotRunning says why a sandbox cannot do something.
func NotRunning(id string, sb *providerv1.Sandbox) *fault.Error {
	const prefix = len("SANDBOX_STATE_")
	state := sb.GetState().String()[prefix:]
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "sandbox %q is %s: %s", id, state, sb.GetStatusReason()).
		With("sandbox_id", id).With("state", state)
}

// askAgain is when to ask again about a key that is under way.
const askAgain = 5 * time.Second

// MadeNothing is for a key of which the vendor knows nothing. left is what Ledger.Wait
// said before the vendor was asked, so that what ends meanwhile is seen.
func MadeNothing(key string, left time.Duration) *fault.Error {
	if left > 0 {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE,
			"a request with idempotency key %q was sent and not answered: for %s it may still make a sandbox", key, left.Round(time.Second)).
			With("idempotency_key", key).WithEffect(effectNone).WithRetryAfter(min(left, askAgain))
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "idempotency key %q made nothing", key).With("idempotency_key", key)
}
