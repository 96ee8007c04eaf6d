package cli

import (
	"crypto/rand"
	"strings"
)

// randomID returns 26 random characters of base32, as ids and idempotency keys
// of the contract have them.
func randomID() string { return strings.ToLower(rand.Text()) }

// newExecID returns an id for StartExec, which is its idempotency key as well.
func newExecID() string { return "exe_" + randomID() }

// runName names a sandbox that belongs to one `run`. It is chosen here, so that
// the sandbox can be removed even if the answer to its creation never came.
func runName() string { return "run-" + randomID()[:10] }
