package lifecycle

import providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

type kind int

const (
	askPause kind = iota + 1
	askResume
	askDelete
	askUse
	observed
	absent
	removed
	refused
	lost
	unreachable
)

var kindNames = map[kind]string{
	askPause: "ask pause", askResume: "ask resume", askDelete: "ask delete", askUse: "ask use",
	observed: "observed", absent: "absent", removed: "removed", refused: "refused", lost: "lost", unreachable: "unreachable",
}

// Event is something that happened to a sandbox. The functions below make them.
type Event struct {
	kind   kind
	state  providerv1.SandboxState
	reason string
	final  bool
}

// String names the event, for logs and transcripts.
func (e Event) String() string {
	switch {
	case e.kind == observed:
		return "observed " + Name(e.state)
	case e.kind == refused && e.final:
		return "refused for good"
	default:
		return kindNames[e.kind]
	}
}

// AskPause is a wish to pause: a user's, or the end of a budget. reason may be
// empty.
func AskPause(reason string) Event { return Event{kind: askPause, reason: reason} }

// AskResume is a wish to resume.
func AskResume() Event { return Event{kind: askResume} }

// AskDelete is a wish to delete: a user's, or the end of a lifetime. reason may
// be empty.
func AskDelete(reason string) Event { return Event{kind: askDelete, reason: reason} }

// AskUse is a wish to do something inside: exec, files, ports.
func AskUse() Event { return Event{kind: askUse} }

// Observed is the provider's word about the sandbox: the answer to the pending
// operation, to a question, or a line of a listing.
func Observed(state providerv1.SandboxState, reason string) Event {
	return Event{kind: observed, state: state, reason: reason}
}

// Absent is the provider's proof that it has no such sandbox, be it because the
// pending delete worked, because the pending create never did, or because the
// sandbox vanished. Of a sandbox that is Undecided only the answer to a question
// by key is such a proof.
func Absent(reason string) Event { return Event{kind: absent, reason: reason} }

// Removed is the provider's word that the pending delete left nothing. It says
// nothing about a create that is still on its way.
func Removed(reason string) Event { return Event{kind: removed, reason: reason} }

// Refused is an error of the pending operation with effect none. final says that
// asking again would not help.
func Refused(reason string, final bool) Event {
	return Event{kind: refused, reason: reason, final: final}
}

// Lost is an error of the pending operation that may have had an effect.
func Lost(reason string) Event { return Event{kind: lost, reason: reason} }

// Unreachable says that the provider cannot be asked now.
func Unreachable(reason string) Event { return Event{kind: unreachable, reason: reason} }

// Action is what the service has to do after a step.
type Action int

// The actions. Call* send the operation to the provider; Ask asks the provider
// for the truth, by key while it is Undecided, else by id, now or after a back-off; Forget drops the sandbox from the live ones.
const (
	CallPause Action = iota + 1
	CallResume
	CallDelete
	Ask
	Forget
)

// String names the action, for logs and transcripts.
func (a Action) String() string {
	switch a {
	case CallPause:
		return "call pause"
	case CallResume:
		return "call resume"
	case CallDelete:
		return "call delete"
	case Ask:
		return "ask"
	case Forget:
		return "forget"
	}
	return "invalid"
}
