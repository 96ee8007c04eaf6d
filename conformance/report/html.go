package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page/page.html.tmpl
var pageTemplate string

//go:embed page/style.css
var pageStyle string

//go:embed page/script.js
var pageScript string

// WriteHTML writes one page about one or several reports: a matrix of providers
// against profiles, capabilities and cases, with the reason behind each cell, and
// every case in full. The page is a single file that asks for nothing else, and
// forbids itself to.
func WriteHTML(w io.Writer, reports ...*Report) error {
	// Parsed here and not when the program starts: most programs write no page.
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("the template of the page is broken: %w", err)
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, newPage(reports)); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = w.Write(buf.Bytes())
	return err
}

// page is what the template shows.
type page struct {
	Style   template.CSS
	Script  template.JS
	Columns []column
	// Span is the number of columns of the matrix.
	Span int
	// Profiles, Areas of capabilities, and Groups of cases are the matrix.
	Profiles []row
	Areas    []group
	Groups   []group
	Sections []section
}

// column is a report in the matrix.
type column struct {
	Anchor, Name, Version, Target, Class, Icon, Verdict, Summary string
}

// group is a part of the matrix with a heading.
type group struct {
	Name, Note string
	Rows       []row
}

// row is a line of the matrix.
type row struct {
	Name, Note string
	Cells      []mark
}

// Parts are the name in pieces after which a narrow column may break it.
func (r row) Parts() []string {
	var out []string
	rest := r.Name
	for {
		i := strings.IndexAny(rest, "./")
		if i < 0 {
			return append(out, rest)
		}
		out, rest = append(out, rest[:i+1]), rest[i+1:]
	}
}

// mark is a cell: a sign, a word, and the reason that hover, focus and tap show.
type mark struct {
	Class, Icon, Word, Reason, Href string
}

// section is one report in full.
type section struct {
	column
	Facts        []fact
	Known        []KnownFailure
	Measurements []Measurement
	Groups       []caseGroup
}

type fact struct{ Name, Value string }

// caseGroup are the cases of one profile.
type caseGroup struct {
	mark
	Name  string
	Tally string
	Open  bool
	Cases []caseView
}

// caseView is one case in full.
type caseView struct {
	Case
	mark
	Anchor string
	Took   string
	Texts  []requirement
	Rerun  string
}

type requirement struct{ ID, Level, Text, File string }

// Runs are the text in pieces, of which every second one is code.
func (r requirement) Runs() []string { return strings.Split(r.Text, "`") }

func newPage(reports []*Report) page {
	p := page{Style: template.CSS(pageStyle), Script: template.JS(pageScript), Span: len(reports) + 1} //nolint:gosec // both are files of this package
	for i, r := range reports {
		p.Columns = append(p.Columns, columnOf(i, r))
		p.Sections = append(p.Sections, sectionOf(i, r))
	}
	if len(reports) == 0 {
		return p
	}
	p.Profiles = profileRows(reports)
	p.Areas = capabilityGroups(reports)
	p.Groups = caseGroups(reports)
	return p
}

func columnOf(i int, r *Report) column {
	m := verdictMark(r.Verdict)
	return column{
		Anchor: anchor(i), Name: r.Plugin.Name, Version: r.Plugin.Version, Target: targetWord(r), Class: m.Class, Icon: m.Icon,
		Verdict: m.Word, Summary: upper(r.Summary()),
	}
}

func anchor(i int) string { return fmt.Sprintf("r%d", i+1) }

// caseAnchor is where a case of a report stands on the page.
func caseAnchor(i int, id string) string { return anchor(i) + "-" + strings.ReplaceAll(id, "/", "-") }

func targetWord(r *Report) string {
	return map[string]string{"binary": "as a plugin", "broker": "through a broker", "in_process": "in process"}[r.Plugin.Target]
}

func verdictMark(v Verdict) mark {
	switch v {
	case Conformant:
		return mark{Class: "good", Icon: "✓", Word: "conformant"}
	case Partial:
		return mark{Class: "open", Icon: "◐", Word: "partial"}
	case Not:
		return mark{Class: "bad", Icon: "✗", Word: "not conformant"}
	case Absent:
	}
	return mark{Class: "none", Icon: "–", Word: "absent"}
}

func sectionOf(i int, r *Report) section {
	s := section{column: columnOf(i, r), Known: r.KnownFailures, Measurements: r.Measurements}
	all, executed := r.Totals()
	took := time.Duration(r.Run.DurationMS * float64(time.Millisecond)).Round(100 * time.Millisecond)
	s.Facts = []fact{
		{"Verdict", s.Summary},
		{"Cases", fmt.Sprintf("%d MUST cases executed; %d passed, %d failed, %d known to fail, %d skipped, %d errors",
			executed, all.Pass, all.Fail+all.UnexpectedPass, all.KnownFail, all.Skip, all.Error)},
		{"Vendor", r.Plugin.Vendor},
		{"Run", r.Plugin.Launcher},
		{"Suite", r.Suite.Version},
		{"On", fmt.Sprintf("%s/%s, kernel %s, as %s", r.Environment.OS, r.Environment.Arch, r.Environment.Kernel, userWords(r))},
		{"When", fmt.Sprintf("%s, for %s", r.Run.Started.UTC().Format("2006-01-02 15:04 UTC"), took)},
		{"Seed", r.Run.Seed},
		{"Pace", r.Run.Pace()},
		{"Binary", r.Plugin.SHA256},
	}
	for _, p := range r.Profiles {
		s.Groups = append(s.Groups, casesOf(i, r, p))
	}
	return s
}

// casesOf shows the cases of one profile.
func casesOf(i int, r *Report, p Profile) caseGroup {
	g := caseGroup{mark: verdictMark(p.Verdict), Name: p.Name}
	g.Reason = p.Reason
	for _, c := range r.Cases {
		if c.Profile != p.Name {
			continue
		}
		v := caseView{
			Case: c, mark: caseMark(r, c), Anchor: caseAnchor(i, c.ID), Took: fmt.Sprintf("%.0f ms", c.ElapsedMS), Texts: texts(c),
			Rerun: "sandbar conformance run --case " + c.ID + " " + r.Run.Flags(),
		}
		if c.Outcome == Skip {
			v.Took = ""
		}
		g.Open = g.Open || v.Class == "bad"
		g.Cases = append(g.Cases, v)
	}
	n := p.Counts
	g.Tally = fmt.Sprintf("%d passed", n.Pass)
	for _, part := range []struct {
		n    int
		word string
	}{{n.Fail + n.UnexpectedPass, "failed"}, {n.KnownFail, "known to fail"}, {n.Error, "not judged"}, {n.Skip, "skipped"}} {
		if part.n > 0 {
			g.Tally += fmt.Sprintf(", %d %s", part.n, part.word)
		}
	}
	return g
}
