package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/spec"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// profileRows are providers against profiles. The first report says which there
// are.
func profileRows(reports []*Report) []row {
	var out []row
	for _, p := range reports[0].Profiles {
		line := row{Name: p.Name, Note: "requires " + strings.Join(p.Requires, ", ")}
		if len(p.Requires) == 0 {
			line.Note = "required of nobody by capability"
		}
		if p.Name == Core {
			line.Note = "mandatory"
		}
		for i, r := range reports {
			got := r.profile(p.Name)
			m := verdictMark(got.Verdict)
			m.Href = anchor(i) + "-" + p.Name
			m.Reason = got.Reason
			if m.Reason == "" {
				m.Reason = fmt.Sprintf("all %d MUST cases that apply passed", got.Executed)
			}
			line.Cells = append(line.Cells, m)
		}
		out = append(out, line)
	}
	return out
}

// capabilityGroups are providers against capabilities, by area.
func capabilityGroups(reports []*Report) []group {
	var out []group
	for _, known := range guard.Registry() {
		area, _, _ := strings.Cut(known.ID, ".")
		if len(out) == 0 || out[len(out)-1].Name != area {
			out = append(out, group{Name: area})
		}
		line := row{Name: known.ID, Note: known.Meaning}
		for _, r := range reports {
			line.Cells = append(line.Cells, capabilityMark(r, known.ID))
		}
		g := &out[len(out)-1]
		g.Rows = append(g.Rows, line)
	}
	return out
}

func capabilityMark(r *Report, id string) mark {
	positive, negative := passing(r, func(c Case) bool { return slices.Contains(c.Needs, id) }), passing(r, func(c Case) bool { return c.Denies == id })
	switch {
	case slices.Contains(r.Capabilities.Verified, id):
		return mark{Class: "good", Icon: "✓", Word: "verified", Reason: "declared, and proven by " + positive}
	case slices.Contains(r.Capabilities.Unverified, id):
		m := mark{Class: "open", Icon: "◐", Word: "declared", Reason: "declared, and no case that needs it ran"}
		if broken := first(r, id); broken != "" {
			m.Class, m.Icon, m.Reason = "bad", "✗", "declared, and "+broken+" did not pass"
		}
		return m
	case slices.Contains(r.Capabilities.Refused, id):
		return mark{Class: "none", Icon: "–", Word: "refused", Reason: "not declared, and its use is refused: " + negative}
	}
	return mark{Class: "none", Icon: "·", Word: "not checked", Reason: "not declared, and nobody looked whether its use is refused"}
}

// passing names some cases that passed.
func passing(r *Report, about func(Case) bool) string {
	var ids []string
	for _, c := range r.Cases {
		if about(c) && c.Outcome == Pass {
			ids = append(ids, c.ID)
		}
	}
	const most = 3
	if len(ids) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
	}
	return strings.Join(ids, ", ")
}

// first is a case that needs a capability and was not passed.
func first(r *Report, id string) string {
	for _, c := range r.Cases {
		if slices.Contains(c.Needs, id) && slices.Contains([]string{Fail, KnownFail, Error}, c.Outcome) {
			return c.ID
		}
	}
	return ""
}

// caseGroups are providers against cases, by profile.
func caseGroups(reports []*Report) []group {
	var out []group
	for _, p := range reports[0].Profiles {
		g := group{Name: p.Name}
		for _, c := range reports[0].Cases {
			if c.Profile != p.Name {
				continue
			}
			line := row{Name: c.ID, Note: c.Title}
			for i, r := range reports {
				line.Cells = append(line.Cells, caseCell(i, r, c.ID))
			}
			g.Rows = append(g.Rows, line)
		}
		if len(g.Rows) > 0 {
			g.Note = fmt.Sprintf("%d cases", len(g.Rows))
			out = append(out, g)
		}
	}
	return out
}

// caseCell is a case of a report in the matrix.
func caseCell(i int, r *Report, id string) mark {
	at := slices.IndexFunc(r.Cases, func(c Case) bool { return c.ID == id })
	if at < 0 {
		return mark{Class: "none", Icon: "·", Word: "unknown", Reason: "the suite of this report does not have it"}
	}
	m := caseMark(r, r.Cases[at])
	m.Href = caseAnchor(i, id)
	return m
}

// caseMark puts an outcome into a sign, a word and a reason.
func caseMark(r *Report, c Case) mark {
	reason := ""
	if len(c.Problems) > 0 {
		reason, _, _ = strings.Cut(c.Problems[0], "\n")
	}
	switch c.Outcome {
	case Pass:
		return mark{Class: "good", Icon: "✓", Word: "passed", Reason: fmt.Sprintf("passed in %.0f ms", c.ElapsedMS)}
	case Fail:
		if (c.Level != Must || c.Provisional) && !r.expired(c.ID) {
			return mark{Class: "open", Icon: "!", Word: "warning", Reason: reason}
		}
		return mark{Class: "bad", Icon: "✗", Word: "failed", Reason: reason}
	case UnexpectedPass:
		return mark{Class: "bad", Icon: "✗", Word: "out of date", Reason: "it passed, and stands among the known failures"}
	case KnownFail:
		return mark{Class: "open", Icon: "◐", Word: "known to fail", Reason: "known" + r.knownText(c.ID) + ": " + reason}
	case Error:
		return mark{Class: "open", Icon: "?", Word: "not judged", Reason: "the suite could not do its work: " + reason}
	}
	return mark{Class: "none", Icon: "–", Word: "skipped", Reason: skipWords(c.Skip)}
}

// skipWords puts the reason of a skip into a sentence.
func skipWords(s *Skipped) string {
	if s == nil {
		return ""
	}
	format, ok := map[string]string{
		"capability_not_declared": "does not apply: %s is not declared",
		"capability_declared":     "does not apply: %s is declared",
		"profile_not_selected":    "profile %s was not selected",
		"platform":                "does not apply on this platform: %s",
		"needs_input":             "needs an input that was not given: %s",
		"prerequisite_failed":     "something before it failed: %s",
		"other_target":            "cannot be run on this target: %s",
		"newer_than_plugin":       "is newer than the plugin: %s",
		"operator":                "left out by the operator: %s",
	}[s.Reason]
	if !ok {
		return s.Text()
	}
	return fmt.Sprintf(format, s.Detail)
}

// texts are the requirements of a case in the words of docs/spec.
func texts(c Case) []requirement {
	var out []requirement
	for _, id := range c.Requirements {
		if r, ok := spec.Lookup(id); ok {
			out = append(out, requirement{ID: r.ID, Level: string(r.Level), Text: r.Text, File: r.File})
		}
	}
	return out
}
