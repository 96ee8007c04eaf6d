// Package fault is the one error type of the provider contract: a reason from
// the closed list in errors.proto, what it says about effects, and the codec to
// and from gRPC status details.
//
// Both sides of the plugin border use it, so a reason means the same in a
// driver, in the broker and in a client. Errors are converted at exactly two
// borders: the plugin's gRPC server and the broker's API handler. A value is
// immutable once it has been returned.
//
//	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND,
//		"sandbox %q does not exist", id).With("sandbox_id", id)
package fault
