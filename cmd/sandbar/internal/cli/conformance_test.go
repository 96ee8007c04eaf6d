package cli

import (
	"errors"
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

// TestVerdictCode: nothing but a conformant run of MUST cases ends with 0.
func TestVerdictCode(t *testing.T) {
	for _, tc := range []struct {
		verdict  report.Verdict
		executed int
		want     int
	}{
		{report.Conformant, 1, 0},
		{report.Conformant, 0, codePartial},
		{report.Partial, 9, codePartial},
		{report.Partial, 0, codePartial},
		{report.Not, 9, codeNotConformant},
		{report.Not, 0, codeNotConformant},
		{"", 9, codePartial},
	} {
		err := verdictCode(&report.Report{Verdict: tc.verdict, Profiles: []report.Profile{{Name: "core", Executed: tc.executed}}})
		got := 0
		var exit exitError
		if errors.As(err, &exit) {
			got = int(exit)
		}
		if got != tc.want {
			t.Errorf("verdict %q with %d MUST cases executed ends with %d: want %d", tc.verdict, tc.executed, got, tc.want)
		}
	}
}
