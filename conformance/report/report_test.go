package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

// sample is a report with every kind of outcome in it, judged and sealed.
func sample(t *testing.T, change ...func(*report.Report)) *report.Report {
	t.Helper()
	start := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &report.Report{
		Schema: report.Schema,
		Suite:  report.Suite{Version: "1.0.0", SHA256: hex64('a')},
		Plugin: report.Plugin{
			Name: "example", Vendor: "Example & Sons <x>", Version: "1.2.3", SHA256: hex64('b'), Manifest: hex64('c'), Target: "binary",
			Launcher: "the broker's plugin host",
		},
		Environment: report.Environment{OS: "linux", Arch: "amd64", Kernel: "6.1", User: "ordinary"},
		Run: report.Run{
			ID: "conf-1", Started: start, DurationMS: 1234.5, Seed: "18446744073709551615", Parallel: 4,
			Profiles: []string{"core", "exec", "files"}, Patterns: []string{},
		},
		Profiles: []report.Profile{
			{Name: "core", Requires: []string{}},
			{Name: "exec", Requires: []string{"exec.stdin"}},
			{Name: "files", Requires: []string{"fs.read"}},
			{Name: "network", Requires: []string{"egress.deny"}},
		},
		KnownFailures: []report.KnownFailure{{Case: "exec/known", Expires: "2027-03-01", Issue: "https://example.com/7", Why: "signals | become 128+n"}},
		Measurements:  []report.Measurement{{Name: "create", Count: 3, P50MS: 12.5, P95MS: 40}},
		Cases: []report.Case{
			one("core/pass", "core", report.Must, report.Pass),
			one("core/warns", "core", report.Should, report.Fail, "could be better"),
			one("exec/error", "exec", report.Must, report.Error, "the case panicked: oops"),
			one("exec/known", "exec", report.Must, report.KnownFail, "ended with exit code 130: want signal SIGINT"),
			one("exec/pass", "exec", report.Must, report.Pass),
			one("files/absent", "files", report.Must, report.Skip),
		},
	}
	r.Cases[2].Needs = []string{"exec.stdin"}
	r.Cases[3].Needs = []string{"exec.signal"}
	r.Cases[4].Needs = []string{"exec.stdin"}
	r.Cases[5].Needs, r.Cases[5].Skip = []string{"fs.read"}, &report.Skipped{Reason: "capability_not_declared", Detail: "fs.read"}
	r.Cases[0].Denies = "fs.write"
	r.Cases[3].Steps = []report.Step{{AtMS: 0.5, Text: "start [\"sh\"]"}}
	r.Cases[3].Calls = []report.Call{{Method: "StartExec", TookMS: 2, Sent: []string{`{"a":"</script><b>"}`}, Received: []string{}, Error: "UNKNOWN \x1b[31m"}}
	r.Cases[3].Stderr = "panic: <img src=x onerror=alert(1)>\n]]>"
	for _, c := range change {
		c(r)
	}
	r.Judge([]string{"exec.signal", "exec.stdin"})
	if err := r.Seal(); err != nil {
		t.Fatal(err)
	}
	return r
}

func one(id, profile, level, outcome string, problems ...string) report.Case {
	return report.Case{
		ID: id, Title: "Something is as it should be.", Profile: profile, Level: level, Requirements: []string{"REQ-TEST-001"},
		Needs: []string{}, Outcome: outcome, Started: time.Date(2027, 1, 2, 3, 4, 6, 0, time.UTC), ElapsedMS: 10,
		Problems: append([]string{}, problems...), Steps: []report.Step{}, Calls: []report.Call{},
	}
}

// outcome sets what became of a case.
func outcome(id, to string, problems ...string) func(*report.Report) {
	return func(r *report.Report) {
		for i := range r.Cases {
			if r.Cases[i].ID == id {
				r.Cases[i].Outcome, r.Cases[i].Problems = to, append([]string{}, problems...)
				r.Cases[i].Skip = nil
			}
		}
	}
}

func skipped(id, reason string) func(*report.Report) {
	return func(r *report.Report) {
		outcome(id, report.Skip)(r)
		for i := range r.Cases {
			if r.Cases[i].ID == id {
				r.Cases[i].Skip = &report.Skipped{Reason: reason, Detail: "why"}
			}
		}
	}
}

// clean is a run in which everything that applies passed.
func clean(r *report.Report) {
	r.KnownFailures = []report.KnownFailure{}
	outcome("core/warns", report.Pass)(r)
	outcome("exec/error", report.Pass)(r)
	outcome("exec/known", report.Pass)(r)
	r.Cases[3].Steps, r.Cases[3].Calls, r.Cases[3].Stderr = []report.Step{}, []report.Call{}, ""
}

func TestJudge(t *testing.T) {
	all := func(fs ...func(*report.Report)) []func(*report.Report) {
		return append([]func(*report.Report){clean}, fs...)
	}
	provisional := func(r *report.Report) { r.Cases[0].Provisional = true }
	for name, tc := range map[string]struct {
		change        []func(*report.Report)
		overall, exec report.Verdict
		reason        string
	}{
		"everything passes": {all(), report.Conformant, report.Conformant, ""},
		"as it is":          {nil, report.Partial, report.Partial, "exec/error could not be judged, and 1 more"},
		"a MUST fails":      {all(outcome("exec/pass", report.Fail, "x")), report.Not, report.Not, "exec/pass failed"},
		"a SHOULD fails":    {all(outcome("core/warns", report.Fail, "x")), report.Conformant, report.Conformant, ""},
		"a provisional MUST of core fails, and another passes": {
			all(outcome("core/pass", report.Fail, "x"), provisional, func(r *report.Report) { r.Cases[1].Level = report.Must }),
			report.Conformant, report.Conformant, "",
		},
		"the suite errs":       {all(outcome("exec/pass", report.Error, "x")), report.Partial, report.Partial, "exec/pass could not be judged"},
		"the operator skips":   {all(skipped("exec/pass", "operator")), report.Partial, report.Partial, "exec/pass was skipped: operator:why"},
		"an input is missing":  {all(skipped("exec/pass", "needs_input")), report.Partial, report.Partial, "exec/pass was skipped: needs_input:why"},
		"another target":       {all(skipped("exec/pass", "other_target")), report.Conformant, report.Conformant, ""},
		"a known failure":      {all(outcome("exec/known", report.KnownFail, "x")), report.Partial, report.Partial, "exec/known is known to fail"},
		"an entry is stale":    {all(outcome("exec/known", report.UnexpectedPass)), report.Not, report.Not, "exec/known passed, and stands among the known failures"},
		"core was not run":     {all(skipped("core/pass", "other_target"), skipped("core/warns", "other_target")), report.Partial, report.Conformant, ""},
		"nothing was run":      {all(skippedAll), report.Partial, report.Absent, "none of its cases applies to this target"},
		"exec is not selected": {all(func(r *report.Report) { r.Run.Profiles = []string{"core"} }), report.Partial, report.Partial, "it was not selected"},
		"an entry has expired": {
			all(outcome("core/warns", report.Fail, "x"), func(r *report.Report) {
				r.KnownFailures = []report.KnownFailure{{Case: "core/warns", Expires: "2027-01-02", Issue: "https://example.com", Why: "x"}}
			}), report.Not, report.Conformant, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := sample(t, tc.change...)
			if r.Verdict != tc.overall || r.Profiles[1].Verdict != tc.exec || r.Profiles[1].Reason != tc.reason {
				t.Errorf("verdict %s, exec %s %q: want %s, %s %q", r.Verdict, r.Profiles[1].Verdict, r.Profiles[1].Reason, tc.overall, tc.exec, tc.reason)
			}
		})
	}
}

func skippedAll(r *report.Report) {
	for _, c := range r.Cases {
		skipped(c.ID, "other_target")(r)
	}
}

func TestAbsentProfiles(t *testing.T) {
	r := sample(t, clean)
	if p := r.Profiles[2]; p.Verdict != report.Absent || p.Reason != "the plugin does not declare fs.read" {
		t.Errorf("files is %s %q: want it absent", p.Verdict, p.Reason)
	}
	// What an absent profile breaks is broken all the same.
	r = sample(t, clean, outcome("files/absent", report.Fail, "x"), func(r *report.Report) { r.Cases[5].Needs = []string{} })
	if r.Verdict != report.Not {
		t.Errorf("verdict %s after a MUST of an absent profile failed: want not", r.Verdict)
	}
}

func TestPartition(t *testing.T) {
	c := sample(t).Capabilities
	for name, tc := range map[string]struct {
		list []string
		want []string
	}{
		"verified": {c.Verified, nil}, "declared": {c.Unverified, []string{"exec.signal", "exec.stdin"}}, "refused": {c.Refused, []string{"fs.write"}},
	} {
		if len(tc.list) != len(tc.want) {
			t.Errorf("%s: %q, want %q", name, tc.list, tc.want)
		}
	}
	if got := sample(t, clean).Capabilities.Verified; len(got) != 2 {
		t.Errorf("verified are %q: want both that are declared", got)
	}
}

func TestTextOfAStaleEntry(t *testing.T) {
	c := one("exec/pass", "exec", report.Must, report.UnexpectedPass)
	c.Steps = []report.Step{{Text: "start"}}
	if text := c.Text("again"); !strings.Contains(text, "take the entry out") || strings.Contains(text, "start") {
		t.Errorf("want what to do and nothing else:\n%s", text)
	}
}

// TestTextQuotesTheContract: a failure shows the requirement that it breaks.
func TestTextQuotesTheContract(t *testing.T) {
	c := one("exec/pass", "exec", report.Must, report.Fail, "it is wrong")
	c.Requirements = []string{"REQ-EXEC-030"}
	text := c.Text("sandbar conformance run --case exec/pass")
	for _, want := range []string{"FAIL exec/pass", "  - it is wrong", "REQ-EXEC-030 (MUST)", "[docs/spec/exec.md]", "again: sandbar conformance run"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
