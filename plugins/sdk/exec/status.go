package exec

import (
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// SignalName returns the name that ExitStatus.signal uses, such as SIGKILL.
func SignalName(signal providerv1.ExecSignal) string {
	return "SIG" + strings.TrimPrefix(signal.String(), "EXEC_SIGNAL_")
}

// Exited returns the status of a command that ended by itself with a code.
func Exited(code int) *providerv1.ExitStatus {
	return &providerv1.ExitStatus{
		Result: &providerv1.ExitStatus_Code{Code: int32(code)},
		Cause:  providerv1.ExitCause_EXIT_CAUSE_TASK,
	}
}

// Killed returns the status of a command that a signal ended.
func Killed(signal string) *providerv1.ExitStatus {
	return &providerv1.ExitStatus{
		Result: &providerv1.ExitStatus_Signal{Signal: signal},
		Cause:  providerv1.ExitCause_EXIT_CAUSE_TASK,
	}
}

// doings is what this side did to a command before it ended, from which the
// cause of its end follows.
type doings struct {
	timedOut bool
	deleted  bool
	sent     map[string]bool
}

// settle returns the status to report for what Wait answered. It is the place
// where "nobody knows" is kept from becoming an exit code.
func settle(got *providerv1.ExitStatus, err error, did doings) *providerv1.ExitStatus {
	if did.deleted && (err != nil || got.GetResult() == nil) {
		return &providerv1.ExitStatus{
			Result: &providerv1.ExitStatus_Signal{Signal: "SIGKILL"},
			Cause:  providerv1.ExitCause_EXIT_CAUSE_SANDBOX, Detail: "the sandbox was deleted",
		}
	}
	if err != nil {
		return unknownEnd("how it ended cannot be told: " + err.Error())
	}
	if got.GetResult() == nil {
		if got.GetCause() == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN {
			return unknownEnd(got.GetDetail())
		}
		return unknownEnd("the provider reported neither a code nor a signal")
	}
	switch got.GetCause() {
	case providerv1.ExitCause_EXIT_CAUSE_UNSPECIFIED, providerv1.ExitCause_EXIT_CAUSE_TASK:
	default:
		return got
	}
	out := &providerv1.ExitStatus{
		Result: got.GetResult(), OutOfMemory: got.GetOutOfMemory(), Detail: got.GetDetail(),
		Cause: providerv1.ExitCause_EXIT_CAUSE_TASK,
	}
	_, byCode := got.GetResult().(*providerv1.ExitStatus_Code)
	switch {
	case did.deleted:
		out.Cause = providerv1.ExitCause_EXIT_CAUSE_SANDBOX
	case did.timedOut && (!byCode || got.GetCode() != 0):
		out.Cause = providerv1.ExitCause_EXIT_CAUSE_TIMEOUT
	case !byCode && did.sent[got.GetSignal()]:
		out.Cause = providerv1.ExitCause_EXIT_CAUSE_SIGNALED
	}
	return out
}

func unknownEnd(detail string) *providerv1.ExitStatus {
	return &providerv1.ExitStatus{Cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN, Detail: detail}
}
