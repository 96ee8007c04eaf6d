// Package provider is the portable type: one concrete Provider that adds to a
// plugin's connection what must be the same for all providers. Deadlines,
// refusal of undeclared capabilities before anything is sent, errors as
// *fault.Error, retries by reason, digests, settling of lost answers, and exec
// streams that survive the loss of a connection.
//
// A Provider has the contract's own methods, by the generated client over a
// connection that does the work. There is no second interface with the same
// methods.
//
//	p := provider.New("local", plugin, provider.Options{})
//	resp, err := p.CreateSandbox(ctx, req)
//	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED) { … }
//
// The package starts no goroutine that outlives a call. A Provider is safe for
// concurrent use. It must not import the SDK or a plugin.
package provider
