package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitFinding `xml:"failure,omitempty"`
	Error     *junitFinding `xml:"error,omitempty"`
	Skipped   *junitFinding `xml:"skipped,omitempty"`
	Out       string        `xml:"system-out,omitempty"`
	Err       string        `xml:"system-err,omitempty"`
}

type junitFinding struct {
	Type    string `xml:"type,attr,omitempty"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes a report as JUnit XML, one suite for each profile. A failure
// that only warns is skipped with its finding as the message, and a failure that
// is known likewise, so that a CI server is as red as the verdict.
func WriteJUnit(w io.Writer, r *Report) error {
	top := junitSuites{Name: "sandbar conformance of " + clean(r.Plugin.Name), Time: seconds(r.Run.DurationMS)}
	for _, p := range r.Profiles {
		s := junitSuite{
			Name: p.Name, Timestamp: r.Run.Started.UTC().Format(time.RFC3339),
			Properties: []junitProperty{
				{"verdict", string(p.Verdict)},
				{"reason", clean(p.Reason)},
				{"plugin", clean(r.Plugin.Name + " " + r.Plugin.Version)},
				{"sha256", r.Plugin.SHA256},
				{"suite", r.Suite.Version},
				{"seed", r.Run.Seed},
			},
		}
		total := 0.0
		for _, c := range r.Cases {
			if c.Profile == p.Name {
				s.add(r, c)
				total += c.ElapsedMS
			}
		}
		s.Time = seconds(total)
		top.Suites = append(top.Suites, s)
		top.Tests += s.Tests
		top.Failures += s.Failures
		top.Errors += s.Errors
		top.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(top); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(r *Report, c Case) {
	k := junitCase{Name: c.ID, ClassName: "conformance." + c.Profile, Time: seconds(c.ElapsedMS)}
	first := c.Title
	if len(c.Problems) > 0 {
		first = clean(c.Problems[0])
	}
	f := &junitFinding{Message: first, Text: clean(c.Text(""))}
	s.Tests++
	switch {
	case c.Outcome == Fail && (c.Level == Must && !c.Provisional || r.expired(c.ID)):
		f.Type = c.Level
		k.Failure = f
		s.Failures++
	case c.Outcome == UnexpectedPass:
		k.Failure = &junitFinding{Type: "known_failures", Message: "it passed, and stands among the known failures: take the entry out"}
		s.Failures++
	case c.Outcome == Error:
		f.Type = "suite"
		k.Error = f
		s.Errors++
	case c.Outcome == Fail:
		k.Skipped = &junitFinding{Message: "warning: " + first}
		k.Out = f.Text
		s.Skipped++
	case c.Outcome == KnownFail:
		k.Skipped = &junitFinding{Message: "known failure" + clean(r.knownText(c.ID)) + ": " + first}
		k.Out = f.Text
		s.Skipped++
	case c.Outcome == Skip && c.Skip != nil:
		k.Skipped = &junitFinding{Message: clean(c.Skip.Text())}
		s.Skipped++
	}
	if k.Failure != nil || k.Error != nil {
		k.Err = clean(c.Stderr)
	}
	s.Cases = append(s.Cases, k)
}

// knownText names the issue of a known failure.
func (r *Report) knownText(id string) string {
	for _, k := range r.KnownFailures {
		if k.Case == id {
			return fmt.Sprintf(" until %s, %s, %s", k.Expires, k.Issue, k.Why)
		}
	}
	return ""
}

func seconds(ms float64) string { return fmt.Sprintf("%.3f", ms/1000) }

// clean takes out what XML cannot hold: a plugin may have said anything.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || (r >= ' ' && r != utf8.RuneError && r != '\ufffe' && r != '\uffff') {
			return r
		}
		return '?'
	}, s)
}
