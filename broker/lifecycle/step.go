package lifecycle

import (
	"fmt"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Step returns what an event makes of a status, and what to do about it. The
// error is a refusal of a wish, SANDBOX_NOT_RUNNING with metadata state; the
// status is then unchanged.
func Step(s Status, e Event) (Status, []Action, error) {
	if s.Gone {
		return stepGone(s, e)
	}
	switch e.kind {
	case askPause:
		return s.ask(e, Pause, running, paused, pausing, CallPause)
	case askResume:
		return s.ask(e, Resume, paused, running, resuming, CallResume)
	case askDelete:
		return s.askDelete(e)
	case askUse:
		if s.State != running || s.Pending != None {
			return s, nil, s.refusal(e)
		}
		return s, nil, nil
	case observed:
		next, actions := s.observe(e)
		return next, actions, nil
	case absent:
		next, actions := s.absent(e)
		return next, actions, nil
	case removed:
		next, actions := s.removed(e)
		return next, actions, nil
	case refused:
		next, actions := s.refused(e)
		return next, actions, nil
	case lost:
		next, actions := s.lost(e)
		return next, actions, nil
	case unreachable:
		next, actions := s.unreachable(e)
		return next, actions, nil
	}
	panic(fmt.Sprintf("lifecycle: event of kind %d", e.kind))
}

// stepGone keeps the end the end: a late answer changes nothing, deleting again
// is a success, and every other wish is refused.
func stepGone(s Status, e Event) (Status, []Action, error) {
	switch e.kind {
	case askPause, askResume, askUse:
		return s, nil, s.refusal(e)
	default:
		return s, nil, nil
	}
}

// ask moves from the state an operation starts in to the one that says it is
// under way. Being where the operation leads already is a success.
func (s Status) ask(e Event, op Operation, from, to, via providerv1.SandboxState, call Action) (Status, []Action, error) {
	switch {
	case s.Pending == None && s.State == to:
		return s, nil, nil
	case s.Pending == None && s.State == from:
		return Status{State: via, Pending: op, Prior: from, Reason: e.reason}, []Action{call}, nil
	default:
		return s, nil, s.refusal(e)
	}
}

// askDelete is always allowed: deleting is how a user gets out of every other
// state, and the provider's delete can be repeated.
func (s Status) askDelete(e Event) (Status, []Action, error) {
	prior := s.State
	switch s.Pending {
	case Delete:
		prior = s.Prior
	case Create:
		prior = creating
	case None, Pause, Resume:
		prior = known(prior)
	}
	return Status{State: deleting, Pending: Delete, Prior: prior, Reason: e.reason}, []Action{CallDelete}, nil
}

func (s Status) refusal(e Event) error {
	state := Name(s.State)
	if s.Gone {
		state = "DELETED"
	}
	message := "the sandbox is " + state
	if s.Reason != "" {
		message += " (" + s.Reason + ")"
	}
	f := fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "%s; %s", message, want(e.kind))
	return f.With("state", state)
}

func want(k kind) string {
	switch k {
	case askPause:
		return "only a RUNNING one can be paused"
	case askResume:
		return "only a PAUSED one can be resumed"
	default:
		return "it must be RUNNING"
	}
}

func (s Status) observe(e Event) (Status, []Action) {
	if e.state == unknown || e.state == providerv1.SandboxState_SANDBOX_STATE_UNSPECIFIED {
		return s.unreachable(e)
	}
	if s.Pending == Delete {
		if e.state == deleting {
			return s, []Action{Ask}
		}
		// It is there, and the wish to delete stands.
		s.Prior = known(e.state)
		return s, []Action{CallDelete}
	}
	if e.state == creating && s.Pending != Create {
		return Status{
			State: unknown, Pending: s.Pending, Prior: s.Prior,
			Reason: "the provider says CREATING about a sandbox that was made before",
		}, []Action{Ask}
	}
	next := Status{State: e.state, Reason: e.reason}
	if !transitional(e.state) {
		return next, nil
	}
	if underWay(s.Pending, e.state) {
		next.Pending, next.Prior = s.Pending, s.Prior
	}
	return next, []Action{Ask}
}

// underWay reports whether state says that op is still in progress.
func underWay(op Operation, state providerv1.SandboxState) bool {
	switch op {
	case Create:
		return state == creating
	case Pause:
		return state == pausing
	case Resume:
		return state == resuming
	default:
		return false
	}
}

func (s Status) absent(e Event) (Status, []Action) {
	if s.Pending == Create || s.Pending == Delete || s.State == deleting {
		return Status{State: deleting, Gone: true, Reason: e.reason}, []Action{Forget}
	}
	reason := e.reason
	if reason == "" {
		reason = "the provider does not have it any more"
	}
	return Status{State: failed, Reason: reason}, nil
}

// removed ends a sandbox, unless its create may still arrive: then the key has to
// be denied first.
func (s Status) removed(e Event) (Status, []Action) {
	if s.Undecided() {
		return s, []Action{Ask}
	}
	return s.absent(e)
}

func (s Status) refused(e Event) (Status, []Action) {
	switch s.Pending {
	case Create:
		return Status{State: deleting, Gone: true, Reason: e.reason}, []Action{Forget}
	case Delete:
		if !e.final {
			s.Reason = e.reason
			return s, []Action{Ask}
		}
		if s.Undecided() {
			return Status{State: unknown, Pending: Create, Prior: creating, Reason: e.reason}, []Action{Ask}
		}
		// A delete never asked the sandbox to be other than it was; what it is now
		// is for the provider to say.
		return Status{State: known(s.Prior), Reason: e.reason}, []Action{Ask}
	case Pause, Resume:
		return Status{State: s.Prior}, nil
	case None:
	}
	return s, nil
}

// known replaces states that only an operation of ours could have made true.
func known(state providerv1.SandboxState) providerv1.SandboxState {
	if transitional(state) {
		return unknown
	}
	return state
}

func (s Status) lost(e Event) (Status, []Action) {
	if s.Pending == None {
		return s, nil
	}
	s.Reason = e.reason
	if s.Pending != Delete {
		s.State = unknown
	}
	return s, []Action{Ask}
}

func (s Status) unreachable(e Event) (Status, []Action) {
	if s.State == failed {
		return s, nil // the dead stay dead, reachable or not
	}
	s.Reason = e.reason
	if s.Pending != Delete {
		s.State = unknown
	}
	return s, []Action{Ask}
}
