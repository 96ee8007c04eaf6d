package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/proto/guard"
)

// The skip reasons that leave something open. The others say that a case does
// not apply.
const (
	skipOperator    = "operator"
	skipNeedsInput  = "needs_input"
	skipNotSelected = "profile_not_selected"
)

// Judge derives verdicts, counts and the partition of capabilities from the
// results. declared are the capabilities that the plugin says it supports;
// Profiles must be there, with name and what each requires.
//
// A profile is not conformant if a MUST case of it failed, if any case with an
// entry among the known failures passed, or failed after the entry expired. It is
// partial if something of it was left open: it was not selected, a case was
// skipped by the operator or for want of an input, the suite made an error, or a
// failure is known. It is absent if the plugin lacks a capability that it
// requires, or if none of its cases applies. Otherwise it is conformant, which
// takes at least one MUST case that passed. SHOULD and provisional cases warn.
//
// The whole is as bad as its profiles, and never better than core.
func (r *Report) Judge(declared []string) {
	for i := range r.Profiles {
		r.judgeProfile(&r.Profiles[i], declared)
	}
	r.Verdict = r.overall()
	r.partition(declared)
}

func (r *Report) overall() Verdict {
	verdict := Conformant
	core := Absent
	for _, p := range r.Profiles {
		if p.Name == Core {
			core = p.Verdict
		}
		switch p.Verdict {
		case Not:
			return Not
		case Partial:
			verdict = Partial
		case Conformant, Absent:
		}
	}
	if core != Conformant {
		return Partial
	}
	return verdict
}

// findings of a profile, the first of each kind in words.
type findings struct {
	wrong, open []string
}

func (r *Report) judgeProfile(p *Profile, declared []string) {
	p.Executed, p.Counts = 0, Counts{}
	var f findings
	passed := 0
	for _, c := range r.Cases {
		if c.Profile != p.Name {
			continue
		}
		binding := c.Level == Must && !c.Provisional
		p.Counts.add(c, binding)
		if binding && ran(c.Outcome) {
			p.Executed++
		}
		if binding && c.Outcome == Pass {
			passed++
		}
		r.find(c, binding, &f)
	}
	missing := slices.DeleteFunc(slices.Clone(p.Requires), func(id string) bool { return slices.Contains(declared, id) })
	switch {
	case len(f.wrong) > 0:
		p.Verdict, p.Reason = Not, sum(f.wrong)
	case len(missing) > 0:
		p.Verdict, p.Reason = Absent, "the plugin does not declare "+strings.Join(missing, ", ")
	case !slices.Contains(r.Run.Profiles, p.Name):
		p.Verdict, p.Reason = Partial, "it was not selected"
	case len(f.open) > 0:
		p.Verdict, p.Reason = Partial, sum(f.open)
	case passed == 0:
		p.Verdict, p.Reason = Absent, "none of its cases applies to this target"
	default:
		p.Verdict, p.Reason = Conformant, ""
	}
}

// ran reports whether a case with this outcome came to an end of its own.
func ran(outcome string) bool {
	return slices.Contains([]string{Pass, Fail, KnownFail, UnexpectedPass}, outcome)
}

func (c *Counts) add(k Case, binding bool) {
	switch k.Outcome {
	case Pass:
		c.Pass++
	case Fail:
		c.Fail++
		if !binding {
			c.Warn++
		}
	case Skip:
		c.Skip++
	case Error:
		c.Error++
	case KnownFail:
		c.KnownFail++
	case UnexpectedPass:
		c.UnexpectedPass++
	}
}

// find takes note of what a case means for its profile.
func (r *Report) find(c Case, binding bool, f *findings) {
	if c.Provisional && c.Outcome != UnexpectedPass {
		return // it does not count yet; an entry that is out of date does
	}
	switch c.Outcome {
	case Fail:
		switch {
		case r.expired(c.ID):
			f.wrong = append(f.wrong, c.ID+" failed, and its entry among the known failures has expired")
		case binding:
			f.wrong = append(f.wrong, c.ID+" failed")
		}
	case UnexpectedPass:
		f.wrong = append(f.wrong, c.ID+" passed, and stands among the known failures")
	case KnownFail:
		f.open = append(f.open, c.ID+" is known to fail")
	case Error:
		f.open = append(f.open, c.ID+" could not be judged")
	case Skip:
		if c.Skip != nil && slices.Contains([]string{skipOperator, skipNeedsInput, skipNotSelected}, c.Skip.Reason) {
			f.open = append(f.open, c.ID+" was skipped: "+c.Skip.Text())
		}
	}
}

// expired reports whether a case's entry among the known failures counted no
// more when the run began.
func (r *Report) expired(id string) bool {
	return slices.ContainsFunc(r.KnownFailures, func(k KnownFailure) bool {
		day, err := time.Parse(time.DateOnly, k.Expires)
		return k.Case == id && (err != nil || !r.Run.Started.Before(day))
	})
}

// sum is one sentence for several findings.
func sum(all []string) string {
	if len(all) == 1 {
		return all[0]
	}
	return fmt.Sprintf("%s, and %d more", all[0], len(all)-1)
}

// partition puts every capability of the registry into one list.
func (r *Report) partition(declared []string) {
	c := Capabilities{Verified: []string{}, Unverified: []string{}, Refused: []string{}, Unchecked: []string{}}
	for _, known := range guard.Registry() {
		id := known.ID
		switch {
		case slices.Contains(declared, id) && r.proven(func(k Case) bool { return slices.Contains(k.Needs, id) }):
			c.Verified = append(c.Verified, id)
		case slices.Contains(declared, id):
			c.Unverified = append(c.Unverified, id)
		case r.proven(func(k Case) bool { return k.Denies == id }):
			c.Refused = append(c.Refused, id)
		default:
			c.Unchecked = append(c.Unchecked, id)
		}
	}
	r.Capabilities = c
}

// proven reports whether at least one of some cases passed, and none failed.
func (r *Report) proven(about func(Case) bool) bool {
	passed := false
	for _, c := range r.Cases {
		if !about(c) {
			continue
		}
		switch c.Outcome {
		case Pass, UnexpectedPass:
			passed = true
		case Fail, KnownFail, Error:
			return false
		}
	}
	return passed
}

// Totals are the counts of all profiles together, and the number of MUST cases
// that were executed.
func (r *Report) Totals() (Counts, int) {
	var all Counts
	executed := 0
	for _, p := range r.Profiles {
		executed += p.Executed
		all.Pass += p.Counts.Pass
		all.Fail += p.Counts.Fail
		all.Skip += p.Counts.Skip
		all.Error += p.Counts.Error
		all.KnownFail += p.Counts.KnownFail
		all.UnexpectedPass += p.Counts.UnexpectedPass
		all.Warn += p.Counts.Warn
	}
	return all, executed
}

// Summary is the verdict in one line.
func (r *Report) Summary() string {
	var names []string
	for _, p := range r.Profiles {
		if p.Verdict == Conformant {
			names = append(names, p.Name)
		}
	}
	switch {
	case r.Verdict == Not:
		return "not conformant"
	case len(names) == 0:
		return "partial"
	case r.Verdict == Partial:
		return "partial; conformant: " + strings.Join(names, ", ")
	default:
		return "conformant: " + strings.Join(names, ", ")
	}
}
