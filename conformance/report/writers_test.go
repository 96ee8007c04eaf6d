package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if the new form is right, run with -update:\n%s", name, diff)
	}
}

func write(t *testing.T, f func(io.Writer, *report.Report) error, r *report.Report) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := f(&buf, r); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func markdown(w io.Writer, r *report.Report) error { return report.WriteMarkdown(w, r) }

func page(w io.Writer, r *report.Report) error { return report.WriteHTML(w, r) }

// TestGolden keeps the form of every writer.
func TestGolden(t *testing.T) {
	r := sample(t)
	for name, f := range map[string]func(io.Writer, *report.Report) error{
		"report.json": report.WriteJSON, "report.xml": report.WriteJUnit, "report.md": markdown, "report.html": page, "badge.json": report.WriteBadge,
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, write(t, f, r)) })
	}
}

// TestPace: a run that waited longer says so in the same words everywhere, and is
// repeated as it ran.
func TestPace(t *testing.T) {
	const again, words = "--seed 18446744073709551615 --slow 4", "waiting 4 times as long as usual"
	usual, slow := sample(t), sample(t, func(r *report.Report) { r.Run.Slow = 4 })
	for name, f := range map[string]func(io.Writer, *report.Report) error{"markdown": markdown, "page": page} {
		if got := string(write(t, f, slow)); !strings.Contains(got, again) || !strings.Contains(got, words) {
			t.Errorf("%s lacks %q or %q:\n%s", name, again, words, got)
		}
		if got := string(write(t, f, usual)); strings.Contains(got, "--slow") || strings.Contains(got, "as long as usual") {
			t.Errorf("%s tells a pace that was the usual one:\n%s", name, got)
		}
	}
	if got, want := slow.Run.Told(), "seed 18446744073709551615, "+words; got != want {
		t.Errorf("told is %q, want %q", got, want)
	}
}

// TestSchema validates what is written with a validator of the standard, and
// that the schema itself is one.
func TestSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.SchemaJSON()))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*report.Report{sample(t), sample(t, clean)} {
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(write(t, report.WriteJSON, r)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); err != nil {
			t.Error(err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(write(t, report.WriteJSON, sample(t)))
	if _, err := report.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another schema":        {report.Schema, "sandbar.conformance.report/v2"},
		"a field nobody knows":  {`"schema":`, `"more": 1, "schema":`},
		"a field in other case": {`"verdict":`, `"Verdict":`},
		"an outcome":            {`"outcome": "pass"`, `"outcome": "good"`},
		"a skip without reason": {`"skip": {`, `"skipp": {`},
		"a skip of a pass":      {`"outcome": "skip"`, `"outcome": "pass"`},
		"a digest":              {hex64('b'), "abc"},
		"a profile":             {`"name": "network"`, `"name": "speed"`},
		"null for a list":       {`"patterns": []`, `"patterns": null`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("%q is not in the report", change[0])
			}
			if _, err := report.Parse([]byte(bad)); err == nil {
				t.Error("it was read: want it refused")
			}
		})
	}
}

// TestJUnitCounts reads the XML as a CI server does.
func TestJUnitCounts(t *testing.T) {
	type finding struct {
		Message string `xml:"message,attr"`
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Suites   []struct {
			Cases []struct {
				Name    string   `xml:"name,attr"`
				Failure *finding `xml:"failure"`
				Error   *finding `xml:"error"`
				Skipped *finding `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	r := sample(t, outcome("exec/pass", report.Fail, "it is wrong"), outcome("core/pass", report.UnexpectedPass))
	if err := xml.Unmarshal(write(t, report.WriteJUnit, r), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 6 || got.Failures != 2 || got.Errors != 1 || got.Skipped != 3 {
		t.Errorf("%d tests, %d failures, %d errors, %d skipped: want 6, 2, 1, 3", got.Tests, got.Failures, got.Errors, got.Skipped)
	}
	found := map[string]string{}
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			switch {
			case c.Failure != nil:
				found[c.Name] = "failure " + c.Failure.Message
			case c.Error != nil:
				found[c.Name] = "error " + c.Error.Message
			case c.Skipped != nil:
				found[c.Name] = "skipped " + c.Skipped.Message
			}
		}
	}
	want := map[string]string{
		"core/pass":    "failure it passed, and stands among the known failures: take the entry out",
		"core/warns":   "skipped warning: could be better",
		"exec/error":   "error the case panicked: oops",
		"exec/known":   "skipped known failure until 2027-03-01, https://example.com/7, signals | become 128+n: ended with exit code 130: want signal SIGINT",
		"exec/pass":    "failure it is wrong",
		"files/absent": "skipped capability_not_declared:fs.read",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}

// TestPageStandsAlone: nothing is fetched, and what a plugin said is text.
func TestPageStandsAlone(t *testing.T) {
	html := string(write(t, page, sample(t)))
	if refs := regexp.MustCompile(`(?i)(src|href|action)\s*=\s*["']?(https?:)?//`).FindString(html); refs != "" {
		t.Errorf("the page refers to something outside: %q", refs)
	}
	if regexp.MustCompile(`(?i)@import|url\(`).MatchString(html) {
		t.Error("the page's style refers to something outside")
	}
	for _, injected := range []string{"<img src=x", "</script><b>", "Sons <x>"} {
		if strings.Contains(html, injected) {
			t.Errorf("%q stands in the page as markup", injected)
		}
	}
}

func TestBadgeIsJSON(t *testing.T) {
	for verdict, r := range map[string]*report.Report{
		"brightgreen": sample(t, clean), "yellow": sample(t), "red": sample(t, outcome("core/pass", report.Fail, "x")),
	} {
		var b struct {
			SchemaVersion         int
			Label, Message, Color string
		}
		if err := json.Unmarshal(write(t, report.WriteBadge, r), &b); err != nil {
			t.Fatal(err)
		}
		if b.SchemaVersion != 1 || b.Label != "sandbar 1.0" || b.Color != verdict || b.Message == "" {
			t.Errorf("badge %+v: want colour %s", b, verdict)
		}
	}
}

// TestOutlivesBadText: a table's row stays a row, whatever a case said.
func TestOutlivesBadText(t *testing.T) {
	r := sample(t, outcome("exec/pass", report.Fail, "a | b\n\n# heading <script>"))
	for line := range strings.Lines(string(write(t, markdown, r))) {
		if strings.HasPrefix(line, "# heading") || strings.Contains(line, "<script>") {
			t.Errorf("line %q came from a case", line)
		}
	}
}
