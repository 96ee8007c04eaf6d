package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Schema names the form of a report. It changes when a reader would have to.
const Schema = "sandbar.conformance.report/v1"

// Verdict sums up a report, or one profile of it.
type Verdict string

// The verdicts.
const (
	// Conformant: everything that applies was run, and every MUST was kept.
	Conformant Verdict = "conformant"
	// Partial: nothing was found that is wrong, but not everything was run.
	Partial Verdict = "partial"
	// Not: a MUST is broken, or the list of known failures is out of date.
	Not Verdict = "not"
	// Absent, of a profile only: it does not apply to this plugin or target.
	Absent Verdict = "absent"
)

// The outcomes of a case.
const (
	Pass           = "pass"
	Fail           = "fail"
	Skip           = "skip"
	Error          = "error"
	KnownFail      = "known_fail"
	UnexpectedPass = "unexpected_pass"
)

// Levels of a case.
const (
	Must   = "MUST"
	Should = "SHOULD"
)

// Core is the profile that is mandatory.
const Core = "core"

// Report is one run of the suite against one provider.
type Report struct {
	Schema      string      `json:"schema"`
	Suite       Suite       `json:"suite"`
	Plugin      Plugin      `json:"plugin"`
	Environment Environment `json:"environment"`
	Run         Run         `json:"run"`
	// Verdict is the worst of what the profiles say, by the rules of Judge.
	Verdict  Verdict   `json:"verdict"`
	Profiles []Profile `json:"profiles"`
	// Capabilities partition the registry.
	Capabilities  Capabilities   `json:"capabilities"`
	KnownFailures []KnownFailure `json:"known_failures"`
	Measurements  []Measurement  `json:"measurements"`
	// Cases are all cases of the suite, sorted by id, whether or not they ran.
	Cases []Case `json:"cases"`
	// Digest is the SHA-256, in hex, of the canonical form of everything else but
	// the signature.
	Digest string `json:"digest,omitempty"`
	// Signature is a signed note over the digest.
	Signature string `json:"signature,omitempty"`
}

// Suite says which suite ran.
type Suite struct {
	// Version is MAJOR.MINOR.PATCH; the first two are the protocol's.
	Version string `json:"version"`
	// ProtocolMinor is the highest minor that the suite knows.
	ProtocolMinor uint32 `json:"protocol_minor"`
	// SHA256 is of the program that ran the suite, in hex; empty where it cannot
	// be read.
	SHA256 string `json:"sha256"`
}

// Plugin says what was tested.
type Plugin struct {
	Name    string `json:"name"`
	Vendor  string `json:"vendor"`
	Version string `json:"version"`
	// SHA256 is of the binary, in hex; empty for a target that has none.
	SHA256 string `json:"sha256"`
	// Manifest is the SHA-256 of what the binary says of itself.
	Manifest string `json:"manifest"`
	// Target is binary, broker or in_process; a report of the last is for the one
	// who wrote the driver, and verifies as nothing.
	Target string `json:"target"`
	// Launcher says in a few words how it was run.
	Launcher string `json:"launcher"`
}

// Environment says where.
type Environment struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	// User is root or ordinary.
	User string `json:"user"`
}

// Run says when and how.
type Run struct {
	ID         string    `json:"id"`
	Started    time.Time `json:"started"`
	DurationMS float64   `json:"duration_ms"`
	// Seed is text, because not every reader of JSON keeps 64 bits.
	Seed     string `json:"seed"`
	Parallel int    `json:"parallel"`
	// Slow is how many times longer than usual everything was waited for; 0: as usual.
	Slow int `json:"slow,omitempty"`
	// Profiles are those that were selected.
	Profiles []string `json:"profiles"`
	// Patterns select cases; empty: all.
	Patterns []string `json:"patterns"`
}

// Flags are those of `sandbar conformance run` that make cases run again as they ran.
func (r Run) Flags() string {
	flags := "--seed " + r.Seed
	if r.Slow > 1 {
		flags += " --slow " + strconv.Itoa(r.Slow)
	}
	return flags
}

// Pace says so if things were waited for longer than usual; it is empty if not.
func (r Run) Pace() string {
	if r.Slow <= 1 {
		return ""
	}
	return fmt.Sprintf("waiting %d times as long as usual", r.Slow)
}

// Told is the seed and, if it was not the usual one, the pace.
func (r Run) Told() string {
	told := "seed " + r.Seed
	if pace := r.Pace(); pace != "" {
		told += ", " + pace
	}
	return told
}

// Profile is the verdict on one.
type Profile struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Reason says in one sentence why it is not conformant; empty if it is.
	Reason string `json:"reason"`
	// Requires are the capabilities without which a plugin does not have it.
	Requires []string `json:"requires"`
	// Executed counts MUST cases that passed or failed, as expected or not.
	Executed int    `json:"executed"`
	Counts   Counts `json:"counts"`
}

// Counts are cases by outcome.
type Counts struct {
	Pass           int `json:"pass"`
	Fail           int `json:"fail"`
	Skip           int `json:"skip"`
	Error          int `json:"error"`
	KnownFail      int `json:"known_fail"`
	UnexpectedPass int `json:"unexpected_pass"`
	// Warn counts SHOULD and provisional cases among the failed.
	Warn int `json:"warn"`
}

// Capabilities put every id of the registry into exactly one list.
type Capabilities struct {
	// Verified are declared, and every case that needs them and ran passed.
	Verified []string `json:"verified"`
	// Unverified are declared, and nothing proves them.
	Unverified []string `json:"declared_not_verified"`
	// Refused are not declared, and were seen to be refused.
	Refused []string `json:"refused"`
	// Unchecked are not declared, and nobody looked.
	Unchecked []string `json:"not_checked"`
}

// Declared returns what the plugin declares.
func (c Capabilities) Declared() []string {
	out := slices.Concat(c.Verified, c.Unverified)
	slices.Sort(out)
	return out
}

// KnownFailure is an entry of the list that the run was given.
type KnownFailure struct {
	Case string `json:"case"`
	// Expires is the day, YYYY-MM-DD, from which the failure counts again.
	Expires string `json:"expires"`
	Issue   string `json:"issue"`
	Why     string `json:"why"`
}

// Measurement sums up durations that cases took note of. It is no verdict.
type Measurement struct {
	Name  string  `json:"name"`
	Count int     `json:"count"`
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
}

// Case is what became of one case.
type Case struct {
	ID           string   `json:"id"`
	Title        string   `json:"title"`
	Profile      string   `json:"profile"`
	Level        string   `json:"level"`
	Requirements []string `json:"requirements"`
	Needs        []string `json:"needs"`
	Denies       string   `json:"denies"`
	Provisional  bool     `json:"provisional"`
	Outcome      string   `json:"outcome"`
	// Skip is set for the outcome skip.
	Skip      *Skipped  `json:"skip,omitempty"`
	Started   time.Time `json:"started"`
	ElapsedMS float64   `json:"elapsed_ms"`
	// Problems, one finding each.
	Problems []string `json:"problems"`
	Steps    []Step   `json:"steps"`
	Calls    []Call   `json:"calls"`
	Stderr   string   `json:"stderr"`
}

// Skipped says why a case did not run.
type Skipped struct {
	// Reason is one of a fixed list; Detail names the capability, the input, or
	// what else is meant.
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Text is the reason as one word, such as needs_input:image.
func (s Skipped) Text() string {
	if s.Detail == "" {
		return s.Reason
	}
	return s.Reason + ":" + s.Detail
}

// Step is one thing that a case did.
type Step struct {
	AtMS float64 `json:"at_ms"`
	Text string  `json:"text"`
}

// Call is what was said in one call.
type Call struct {
	Method string  `json:"method"`
	TookMS float64 `json:"took_ms"`
	// Sent and Received are JSON, cut where they are long; of a stream, the first
	// frames.
	Sent     []string `json:"sent"`
	Received []string `json:"received"`
	Frames   int      `json:"frames"`
	// Error is code, reason and message; empty for OK.
	Error string `json:"error"`
}

// Millis is a duration as reports have it: milliseconds, to the microsecond.
func Millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
