// Package broker is the domain service: it makes, remembers, uses and ends
// sandboxes on whatever provider they live, and tells the truth about them.
//
// Every change to a sandbox goes the same way: take the sandbox's lock, ask the
// state machine of package lifecycle, store the outcome, call the provider, store
// its answer. A row is stored before the provider is called, so that after a
// crash at any point the reconciler can ask the provider what became of it.
//
// Operations on one sandbox queue for its lock in order of arrival; a caller
// whose context ends while it queues gets OPERATION_IN_PROGRESS with effect
// none. Calls that change a sandbox go on when the caller leaves, because their
// effect cannot be taken back half-way; a create that nobody can claim any more
// is then deleted. Uses of a sandbox (exec, files, ports) take no lock.
//
// The package must not import plugins or conformance. A Service is safe for
// concurrent use; Close ends all its goroutines.
package broker
