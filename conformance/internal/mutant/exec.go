package mutant

import (
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Causes and reasons that mutants of commands speak of.
const (
	causeTask        = providerv1.ExitCause_EXIT_CAUSE_TASK
	causeSandbox     = providerv1.ExitCause_EXIT_CAUSE_SANDBOX
	causeTimeout     = providerv1.ExitCause_EXIT_CAUSE_TIMEOUT
	causeSignaled    = providerv1.ExitCause_EXIT_CAUSE_SIGNALED
	noSuchExec       = providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND
	noSuchSandbox    = providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND
	execKilled       = providerv1.ExecSignal_EXEC_SIGNAL_KILL
	execStateRunning = providerv1.ExecState_EXEC_STATE_RUNNING
)

func execMutants() []Mutant {
	return slices.Concat(
		endMutants(), deathMutants(), recordMutants(), startMutants(), environmentMutants(), execKeyMutants(), crowdMutants(),
		outputMutants(), paceMutants(), inputMutants(), signalMutants(), attachMutants(), writerMutants(),
	)
}

func endMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/exit-code~signed", Kills: "exec/exit-code", Also: []string{"exec/signal-exit"},
			Bug: "exit codes above 127 arrive as negative numbers",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetCode() > 127 {
					e.Result = &providerv1.ExitStatus_Code{Code: e.GetCode() - 256}
				}
			}),
		},
		{
			ID: "exec/signal-exit~128", Kills: "exec/signal-exit",
			Bug: "a command that killed itself by a signal ends with 128 and the signal's number",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetSignal() != "" && e.GetCause() == causeTask {
					e.Result = &providerv1.ExitStatus_Code{Code: 128 + 9}
				}
			}),
		},
		{
			ID: "exec/timeout~lead-only", Kills: "exec/timeout",
			Bug: "a timeout kills the lead process and leaves its children",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &commands{Driver: d, before: leads(hasTimeout), after: leadsOnly(hasTimeout)}
			},
		},
		{
			ID: "exec/timeout~cause", Kills: "exec/timeout",
			Bug: "the end of a command whose time was over is said to be the task's own",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetCause() == causeTimeout {
					e.Cause = causeTask
				}
			}),
		},
		{
			ID: "exec/timeout-unused~overflow", Kills: "exec/timeout-unused",
			Bug: "a timeout that is longer than the vendor can count is over at once",
			Unary: starting(func(s *providerv1.ExecSpec) {
				if s.GetTimeout().AsDuration() > time.Minute {
					s.Timeout = durationpb.New(time.Millisecond)
				}
			}),
		},
		{
			ID: "exec/drain~as-long-as-it-takes", Kills: "exec/drain",
			Bug:  "a command has not ended for as long as a child holds its pipes",
			Exec: &exec.Options{Drain: time.Hour, Retain: quick().Retain},
			Unary: answer("Describe", func(_ any, resp *providerv1.DescribeResponse, err error) error {
				if err == nil {
					resp.Limits[sdk.LimitDrain] = quick().Drain.Milliseconds()
				}
				return err
			}),
		},
	}
}

func hasTimeout(s *providerv1.ExecSpec) bool { return s.GetTimeout() != nil }

func deathMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/sandbox-deleted~exit-zero", Kills: "exec/sandbox-deleted",
			Bug: "a command whose sandbox is deleted ends with exit code 0",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetCause() == causeSandbox && !e.GetOutOfMemory() {
					e.Result, e.Cause = &providerv1.ExitStatus_Code{}, causeTask
				}
			}),
		},
		{
			ID: "exec/out-of-memory~killed", Kills: "exec/out-of-memory",
			Bug: "a command that was killed for want of memory is said to have been killed, and no more",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetOutOfMemory() {
					e.OutOfMemory, e.Cause, e.Detail = false, causeTask, ""
				}
			}),
		},
	}
}

func recordMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/state~ended-at", Kills: "exec/state",
			Bug: "GetExec gives a command that runs an end",
			Unary: telling(func(e *providerv1.Exec) {
				if e.GetState() == execStateRunning {
					e.EndedAt = e.GetStartedAt()
				}
			}),
		},
		{
			ID: "exec/times~asked", Kills: "exec/times",
			Bug: "a command is said to have ended when somebody asks",
			Unary: telling(func(e *providerv1.Exec) {
				if e.GetEndedAt() != nil {
					e.EndedAt = now()
				}
			}),
		},
		{
			ID: "exec/list~running-only", Kills: "exec/list",
			Bug: "ListExecs leaves out commands that have ended",
			Unary: answer("ListExecs", func(_ any, resp *providerv1.ListExecsResponse, err error) error {
				if err == nil {
					resp.Execs = slices.DeleteFunc(resp.GetExecs(), func(e *providerv1.Exec) bool { return e.GetState() != execStateRunning })
				}
				return err
			}),
		},
	}
}

// telling makes a wire mutant that changes what GetExec answers.
func telling(change func(*providerv1.Exec)) grpc.UnaryServerInterceptor {
	return answer("GetExec", func(_ any, resp *providerv1.GetExecResponse, err error) error {
		if err == nil {
			change(resp.GetExec())
		}
		return err
	})
}

// refusing makes a driver mutant that starts a command all the same after one of
// its fields was refused.
func refusing(field string, without func(*providerv1.ExecSpec)) func(*fake.Driver) sdk.Driver {
	return func(d *fake.Driver) sdk.Driver {
		return &commands{Driver: d, otherwise: func(spec *providerv1.ExecSpec, err error) error {
			if fault.From(err).Metadata["field"] != field {
				return err
			}
			without(spec)
			return nil
		}}
	}
}
