package engine

import (
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// Outcome is how a case ended.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
	// Error means that the suite is at fault. It counts neither for nor against.
	Error Outcome = "error"
	// KnownFail failed as an entry of the known failures says; UnexpectedPass has
	// such an entry and passed, so that the entry is stale.
	KnownFail      Outcome = "known_fail"
	UnexpectedPass Outcome = "unexpected_pass"
)

// SkipReason says why a case did not run.
type SkipReason string

// The reasons. Only Operator, and NeedsInput, make a report partial: the others
// say that the case does not apply.
const (
	NotDeclared      SkipReason = "capability_not_declared"
	Declared         SkipReason = "capability_declared"
	NotSelected      SkipReason = "profile_not_selected"
	Platform         SkipReason = "platform"
	NeedsInput       SkipReason = "needs_input"
	Prerequisite     SkipReason = "prerequisite_failed"
	OtherTarget      SkipReason = "other_target"
	NewerThanSubject SkipReason = "newer_than_plugin"
	Operator         SkipReason = "operator"
)

// Result is what became of one case.
type Result struct {
	Case    Case
	Outcome Outcome
	// SkipReason and Detail are set for Skip; Detail names the capability, the
	// input, or what else is meant.
	SkipReason SkipReason
	Detail     string
	// Problems says what was wrong, one finding each; empty for Pass and Skip.
	Problems []string
	// Steps is the trail of what the case did, with the time since its start.
	Steps []Step
	// Calls is what was sent and what came back: for a failure the last few, with
	// Options.Trace all of them.
	Calls []subject.Call
	// Stderr is the end of what the plugin logged, for failures.
	Stderr string
	// Measured are durations that the case took note of, by name.
	Measured map[string][]time.Duration
	// Started and Elapsed do not include waiting for a place, nor cleaning up.
	Started time.Time
	Elapsed time.Duration
	// Known is the entry that applied, if one did.
	Known *Known
}

// Step is one thing a case did.
type Step struct {
	At   time.Duration
	Text string
}

// Known is an entry of the list of known failures.
type Known struct {
	Case string
	// Expires is the day from which the failure counts again.
	Expires time.Time
	// Issue is where it is discussed; Why is one sentence.
	Issue, Why string
}

// apply turns an outcome into what it means with a known failure.
func (k Known) apply(o Outcome, now time.Time) Outcome {
	switch {
	case o == Pass:
		return UnexpectedPass
	case o == Fail && now.Before(k.Expires):
		return KnownFail
	}
	return o
}
