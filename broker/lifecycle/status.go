package lifecycle

import (
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The states, under short names.
const (
	creating = providerv1.SandboxState_SANDBOX_STATE_CREATING
	running  = providerv1.SandboxState_SANDBOX_STATE_RUNNING
	pausing  = providerv1.SandboxState_SANDBOX_STATE_PAUSING
	paused   = providerv1.SandboxState_SANDBOX_STATE_PAUSED
	resuming = providerv1.SandboxState_SANDBOX_STATE_RESUMING
	deleting = providerv1.SandboxState_SANDBOX_STATE_DELETING
	failed   = providerv1.SandboxState_SANDBOX_STATE_FAILED
	unknown  = providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
)

// Operation is a call to the provider that changes a sandbox. The numbers are
// stored; they never change.
type Operation int

// The operations.
const (
	None   Operation = 0
	Create Operation = 1
	Pause  Operation = 2
	Resume Operation = 3
	Delete Operation = 4
)

// String returns the name as it stands in logs.
func (o Operation) String() string {
	switch o {
	case None:
		return "none"
	case Create:
		return "create"
	case Pause:
		return "pause"
	case Resume:
		return "resume"
	case Delete:
		return "delete"
	}
	return "invalid"
}

// Status is where a sandbox stands. The zero value is invalid; New makes one.
type Status struct {
	// State is what users are told.
	State providerv1.SandboxState
	// Pending is the operation whose outcome is not known for sure yet. It is
	// Create exactly until the sandbox was seen alive or dead for the first time.
	Pending Operation
	// Prior is the state to return to when the provider refuses Pending. It is
	// CREATING for a delete that was asked for while the sandbox was Undecided.
	Prior providerv1.SandboxState
	// Reason says why, for UNKNOWN and FAILED and wherever it helps.
	Reason string
	// Gone is the end: the vendor has nothing and never will.
	Gone bool
}

// New returns the status of a sandbox whose create is about to be sent. It is
// stored before the provider is called.
func New() Status {
	return Status{State: creating, Pending: Create, Prior: creating}
}

// Settled reports whether nothing is left to find out or to finish.
func (s Status) Settled() bool {
	return s.Gone || s.Pending == None && !transitional(s.State) && s.State != unknown
}

// Undecided reports whether it is not known if the sandbox was made. Its create
// may still be on its way to the provider, so that it is not absent before the
// provider has denied its key.
func (s Status) Undecided() bool {
	return !s.Gone && (s.Pending == Create || s.Pending == Delete && s.Prior == creating)
}

// Name returns a state as users write it, such as RUNNING.
func Name(state providerv1.SandboxState) string {
	return strings.TrimPrefix(state.String(), "SANDBOX_STATE_")
}

func transitional(state providerv1.SandboxState) bool {
	switch state {
	case creating, pausing, resuming, deleting:
		return true
	default:
		return false
	}
}
