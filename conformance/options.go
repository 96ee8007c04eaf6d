package conformance

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

// Version of the suite. Major and minor are those of the protocol that it tests;
// a patch may mend or loosen a case, and never tightens one.
const Version = "1.0.0"

// ProtocolMinor is the highest minor of the protocol that the suite knows.
const ProtocolMinor = 0

// Options of a run. The zero value runs everything.
type Options struct {
	// Profiles to run; empty: all. One that is left out makes the verdict partial.
	Profiles []string
	// Cases are patterns for ids as path.Match has them, such as exec/*; empty: all.
	// What they leave out makes the verdict partial.
	Cases []string
	// Skip leaves out cases, by id, and says why. It makes the verdict partial.
	Skip map[string]string
	// KnownFailures must fail; see ParseKnownFailures.
	KnownFailures []KnownFailure
	// Seed orders the cases and seeds their random numbers; 0: a random one, which
	// the report names.
	Seed uint64
	// Parallel is how many cases run at once; 0: 4.
	Parallel int
	// Slow is how many times longer than on a usual machine everything may take; 0: 1.
	// What the contract says about time holds as it is. The report names it.
	Slow int
	// Trace keeps every call of every case in the report, not of failures only.
	Trace bool
	// MaxCost refuses to run cases that could take more sandbox-seconds than this
	// at a vendor that bills them; 0: no limit.
	MaxCost int
	// Inputs are what some cases need from the operator, such as image.
	Inputs map[string]string
	// Observe is called with each case as it ends, one at a time.
	Observe func(Progress)
}

// Progress tells of one case that has ended.
type Progress struct {
	Case report.Case
	// Done of Total cases have ended, this one included.
	Done, Total int
	// Rerun is a command that runs the case again as it ran.
	Rerun string
}

// Profiles returns the names of all profiles, core first.
func Profiles() []string {
	var out []string
	for _, p := range engine.Profiles() {
		out = append(out, string(p))
	}
	return out
}

// check finds what is wrong with options, given all cases.
func (o Options) check(all []engine.Case) error {
	for _, p := range o.Profiles {
		if !slices.Contains(Profiles(), p) {
			return fmt.Errorf("profile %q does not exist: want some of %s", p, strings.Join(Profiles(), ", "))
		}
	}
	for _, pattern := range o.Cases {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("case pattern %q: %w", pattern, err)
		}
		if !slices.ContainsFunc(all, func(c engine.Case) bool { return matches(pattern, c.ID) }) {
			return fmt.Errorf("no case matches %q: `sandbar conformance list` shows them", pattern)
		}
	}
	for id, why := range o.Skip {
		if !exists(all, id) {
			return fmt.Errorf("skip: %w", noCase(id))
		}
		if strings.TrimSpace(why) == "" {
			return fmt.Errorf("skip %s: want a reason, because the report gives it", id)
		}
	}
	seen := map[string]bool{}
	for _, k := range o.KnownFailures {
		if !exists(all, k.Case) {
			return fmt.Errorf("known failures: %w", noCase(k.Case))
		}
		if seen[k.Case] {
			return fmt.Errorf("known failures: %s stands twice", k.Case)
		}
		seen[k.Case] = true
	}
	return o.checkSelection(all)
}

// checkSelection refuses a run that could not say anything, or that costs too
// much.
func (o Options) checkSelection(all []engine.Case) error {
	selected, cost := 0, 0
	for _, c := range all {
		if reason, _ := o.selects(c); reason == "" {
			selected++
			cost += c.Cost
		}
	}
	if selected == 0 {
		return fmt.Errorf("no case is selected: of %d, none is in the profiles, matches the patterns and is not skipped", len(all))
	}
	if o.MaxCost > 0 && cost > o.MaxCost {
		return fmt.Errorf("the %d selected cases take up to %d sandbox-seconds: more than the %d that may be spent", selected, cost, o.MaxCost)
	}
	return nil
}

// selects says why a case is left out, or "".
func (o Options) selects(c engine.Case) (engine.SkipReason, string) {
	if why, ok := o.Skip[c.ID]; ok {
		return engine.Operator, why
	}
	if len(o.Profiles) > 0 && !slices.Contains(o.Profiles, string(c.Profile)) {
		return engine.NotSelected, string(c.Profile)
	}
	if len(o.Cases) > 0 && !slices.ContainsFunc(o.Cases, func(p string) bool { return matches(p, c.ID) }) {
		return engine.Operator, "not among the selected cases"
	}
	return "", ""
}

// matches is path.Match, where a pattern that ends in /* reaches deeper too.
func matches(pattern, id string) bool {
	if prefix, deep := strings.CutSuffix(pattern, "/*"); deep && strings.HasPrefix(id, prefix+"/") {
		return true
	}
	ok, err := path.Match(pattern, id)
	return err == nil && ok
}

func exists(all []engine.Case, id string) bool {
	return slices.ContainsFunc(all, func(c engine.Case) bool { return c.ID == id })
}

func noCase(id string) error {
	return fmt.Errorf("case %q does not exist: `sandbar conformance list` shows them", id)
}

// known turns the list into the engine's.
func (o Options) known() []engine.Known {
	out := make([]engine.Known, 0, len(o.KnownFailures))
	for _, k := range o.KnownFailures {
		out = append(out, engine.Known{Case: k.Case, Expires: k.Expires, Issue: k.Issue, Why: k.Why})
	}
	return out
}

// KnownFailure is a case that is known to fail. It runs, and must fail: when it
// passes, or when the entry has expired, the verdict is not.
type KnownFailure struct {
	Case string
	// Expires is the day, in UTC, from which the failure counts again.
	Expires time.Time
	// Issue is where it is discussed; Why is one sentence.
	Issue, Why string
}
