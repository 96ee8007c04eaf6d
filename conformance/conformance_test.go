package conformance_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reference is the reference provider, in this process.
func reference() conformance.Target {
	return conformance.InProcess(func() (sdk.Driver, error) { return fake.New(fake.Options{}), nil })
}

// quick are two cases of core that need little.
var quick = []string{"exec/exit-code", "create/idempotent-serial"}

func run(t *testing.T, opts conformance.Options) *report.Report {
	t.Helper()
	r, err := conformance.Run(t.Context(), reference(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	var seen []conformance.Progress
	r := run(t, conformance.Options{Cases: quick, Seed: 7, Slow: 2, Observe: func(p conformance.Progress) { seen = append(seen, p) }})
	if len(r.Cases) != len(conformance.Cases()) || len(seen) != len(r.Cases) {
		t.Errorf("%d cases in the report, %d observed: want %d", len(r.Cases), len(seen), len(conformance.Cases()))
	}
	outcomes := map[string]int{}
	for i, c := range r.Cases {
		outcomes[c.Outcome]++
		if c.ID != conformance.Cases()[i].ID {
			t.Fatalf("case %d is %s: want the order of the catalogue", i, c.ID)
		}
	}
	if outcomes[report.Pass] != len(quick) || outcomes[report.Fail]+outcomes[report.Error] > 0 {
		t.Errorf("outcomes %v: want %d passes and no failure", outcomes, len(quick))
	}
	if r.Verdict != report.Partial || r.Run.Seed != "7" || r.Plugin.Name != "fake" || r.Plugin.Target != "in_process" || r.Suite.SHA256 == "" {
		t.Errorf("verdict %s, seed %s, plugin %+v, suite %+v", r.Verdict, r.Run.Seed, r.Plugin, r.Suite)
	}
	last := seen[len(seen)-1]
	if last.Done != last.Total || !strings.HasSuffix(last.Rerun, "--case "+last.Case.ID+" --seed 7 --slow 2") {
		t.Errorf("the last progress is %d of %d, rerun %q", last.Done, last.Total, last.Rerun)
	}
	var buf bytes.Buffer
	if err := report.WriteJSON(&buf, r); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Parse(buf.Bytes()); err != nil {
		t.Errorf("what a run reports does not fit the schema: %v", err)
	}
	if _, err := conformance.Verify(buf.Bytes(), "/bin/true", ""); err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "about no binary") {
		t.Errorf("verify: %v: want it refused only because there is no binary", err)
	}
}

func TestSelection(t *testing.T) {
	r := run(t, conformance.Options{
		Profiles: []string{"core", "core"}, Cases: quick, Skip: map[string]string{"exec/exit-code": "no shell"}, Seed: 1,
		KnownFailures: []conformance.KnownFailure{known("create/idempotent-serial", time.Now().Add(24*time.Hour))},
	})
	for _, c := range r.Cases {
		want := "operator:not among the selected cases"
		switch {
		case c.Profile != "core":
			want = "profile_not_selected:" + c.Profile
		case c.ID == "exec/exit-code":
			want = "operator:no shell"
		case c.ID == "create/idempotent-serial":
			if c.Outcome != report.UnexpectedPass {
				t.Errorf("%s ended with %s: want unexpected_pass, because it is said to fail", c.ID, c.Outcome)
			}
			continue
		}
		if c.Outcome != report.Skip || c.Skip.Text() != want {
			t.Errorf("%s ended with %s %+v: want skip %s", c.ID, c.Outcome, c.Skip, want)
		}
	}
	if diff := cmp.Diff([]string{"core"}, r.Run.Profiles); diff != "" || r.Run.Parallel != 4 {
		t.Errorf("profiles %s, parallel %d", diff, r.Run.Parallel)
	}
	if r.Verdict != report.Not {
		t.Errorf("verdict %s with a stale entry: want not", r.Verdict)
	}
}

func known(id string, expires time.Time) conformance.KnownFailure {
	return conformance.KnownFailure{Case: id, Expires: expires, Issue: "https://example.com/1", Why: "it is so"}
}

func TestOptionsAreChecked(t *testing.T) {
	everything := map[string]string{}
	for _, c := range conformance.Cases() {
		everything[c.ID] = "no"
	}
	for name, tc := range map[string]struct {
		opts conformance.Options
		want string
	}{
		"a profile":      {conformance.Options{Profiles: []string{"speed"}}, `profile "speed" does not exist`},
		"a pattern":      {conformance.Options{Cases: []string{"exec/["}}, "syntax error in pattern"},
		"no match":       {conformance.Options{Cases: []string{"nothing/*"}}, `no case matches "nothing/*"`},
		"a skip":         {conformance.Options{Skip: map[string]string{"x/y": "why"}}, `case "x/y" does not exist`},
		"a reason":       {conformance.Options{Skip: map[string]string{"exec/exit-code": " "}}, "want a reason"},
		"a known case":   {conformance.Options{KnownFailures: []conformance.KnownFailure{known("x/y", time.Now())}}, `case "x/y" does not exist`},
		"a known twice":  {conformance.Options{KnownFailures: []conformance.KnownFailure{known("exec/exit-code", time.Now()), known("exec/exit-code", time.Now())}}, "stands twice"},
		"nothing left":   {conformance.Options{Skip: everything}, "no case is selected"},
		"too expensive":  {conformance.Options{Cases: quick, MaxCost: 1}, "more than the 1 that may be spent"},
		"nothing common": {conformance.Options{Profiles: []string{"pty"}, Cases: quick}, "no case is selected"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := conformance.Run(t.Context(), reference(), tc.opts)
			if r != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("report %v, error %v: want none, and %q", r, err, tc.want)
			}
		})
	}
}

func TestRunWithoutReport(t *testing.T) {
	if _, err := conformance.Run(t.Context(), conformance.Target{}, conformance.Options{}); err == nil {
		t.Error("no target: want an error")
	}
	if _, err := conformance.Run(t.Context(), conformance.Binary("/nowhere/sandbar-provider-x"), conformance.Options{}); err == nil {
		t.Error("no binary: want an error")
	}
	if _, err := conformance.Run(t.Context(), conformance.Broker("ftp://x", "", "x"), conformance.Options{}); err == nil {
		t.Error("no address: want an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := conformance.Run(ctx, reference(), conformance.Options{Cases: quick}); err == nil {
		t.Errorf("a run that was cut reports %v: want an error", r)
	}
}

// TestAsSubtests runs the suite the way a vendor's go test does.
func TestAsSubtests(t *testing.T) {
	r := conformance.Test(t, reference(), conformance.Options{Cases: quick})
	if r.Verdict != report.Partial {
		t.Errorf("verdict %s: want partial", r.Verdict)
	}
}

func TestExplain(t *testing.T) {
	e, err := conformance.Explain("exec/exit-code")
	if err != nil || len(e.Texts) != len(e.Requirements) || len(e.Mutants) == 0 || e.Budget == 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := conformance.Explain("exec/nothing"); err == nil {
		t.Error("a case that does not exist is explained")
	}
}

func TestParseKnownFailures(t *testing.T) {
	got, err := conformance.ParseKnownFailures(strings.NewReader(`
# what we know
exec/exit-code	expires=2027-03-01 issue=https://example.com/7#note  # signals become 128+n # yes

create/idempotent-serial issue=https://example.com/8 expires=2028-01-01 # slow
`), "kf.txt")
	want := []conformance.KnownFailure{
		{Case: "exec/exit-code", Expires: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Issue: "https://example.com/7#note", Why: "signals become 128+n # yes"},
		{Case: "create/idempotent-serial", Expires: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC), Issue: "https://example.com/8", Why: "slow"},
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseKnownFailuresRefuses(t *testing.T) {
	const good = "exec/exit-code expires=2027-03-01 issue=https://example.com/7 # why"
	for line, want := range map[string]string{
		"exec/nope expires=2027-03-01 issue=https://example.com/7 # why":                       `case "exec/nope" does not exist`,
		"exec/exit-code issue=https://example.com/7 # why":                                     "expires is missing",
		"exec/exit-code expires=2027-03-01 # why":                                              "issue is missing",
		"exec/exit-code expires=2027-03-01 issue=https://example.com/7":                        "the reason is missing",
		"exec/exit-code expires=2027-03-01 issue=https://example.com/7 #":                      "the reason is missing",
		"exec/exit-code expires=soon issue=https://example.com/7 # why":                        `expires is "soon": want a day as YYYY-MM-DD`,
		"exec/exit-code expires=2027-02-30 issue=https://example.com/7 # why":                  "want a day",
		"exec/exit-code expires=2027-03-01 issue=seven # why":                                  `issue is "seven": want a URL`,
		"exec/exit-code expires=2027-03-01 issue=https://example.com/7 until=x # why":          `"until" is no key`,
		"exec/exit-code expires=2027-03-01 expires=2027-03-02 issue=https://example.com # why": "once each",
		"exec/exit-code 2027-03-01 # why":                                                      `"2027-03-01": want expires=`,
		good:                                                                                   "stands on line 2 already",
	} {
		_, err := conformance.ParseKnownFailures(strings.NewReader("# first\n"+good+"\n"+line+"\n"), "kf.txt")
		if err == nil || !strings.HasPrefix(err.Error(), "kf.txt:3: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  got %v\n  want kf.txt:3: … %s", line, err, want)
		}
	}
}
