package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/conformance"
)

type conformanceListCmd struct {
	Profile []string `placeholder:"NAME,…" help:"Only cases of these profiles."`
	Format  string   `default:"md" enum:"md,json" help:"md or json."`
}

// Run lists cases. It runs none.
func (c *conformanceListCmd) Run(a *app) error {
	out := []conformance.CaseInfo{}
	for _, info := range conformance.Cases() {
		if len(c.Profile) == 0 || slices.Contains(c.Profile, info.Profile) {
			out = append(out, info)
		}
	}
	if c.Format == "json" || a.JSON {
		return render.Value(a.stdout, out)
	}
	if err := a.out("| case | profile | level | requirements | needs | budget | what a provider does that passes |\n|---|---|---|---|---|---|---|"); err != nil {
		return err
	}
	for _, info := range out {
		needs := strings.Join(info.Needs, ", ")
		if info.Denies != "" {
			needs = strings.TrimPrefix(needs+", not "+info.Denies, ", ")
		}
		if err := a.out("| %s | %s | %s | %s | %s | %s | %s |", info.ID, info.Profile, levelWord(info),
			strings.Join(info.Requirements, ", "), needs, info.Budget, info.Title); err != nil {
			return err
		}
	}
	return nil
}

func levelWord(info conformance.CaseInfo) string {
	if info.Provisional {
		return info.Level + ", provisional"
	}
	return info.Level
}

type conformanceExplainCmd struct {
	Case string `arg:"" help:"Case, such as exec/exit-code."`
}

// Run explains a case.
func (c *conformanceExplainCmd) Run(a *app) error {
	e, err := conformance.Explain(c.Case)
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Value(a.stdout, e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, profile %s)\n  %s\n\n", e.ID, levelWord(e.CaseInfo), e.Profile, e.Title)
	fmt.Fprintf(&b, "targets %s; budget %s; up to %d sandbox-seconds\n", strings.Join(e.Targets, ", "), e.Budget.Round(time.Millisecond), e.CostSeconds)
	if len(e.Needs) > 0 {
		fmt.Fprintf(&b, "runs if the plugin declares %s\n", strings.Join(e.Needs, ", "))
	}
	if e.Denies != "" {
		fmt.Fprintf(&b, "runs if the plugin does not declare %s\n", e.Denies)
	}
	b.WriteString("\nrequirements\n")
	for _, r := range e.Texts {
		fmt.Fprintf(&b, "  %s (%s) in docs/spec/%s\n    %s\n", r.ID, r.Level, r.File, r.Text)
	}
	b.WriteString("\nbugs that it was seen to find\n")
	for _, m := range e.Mutants {
		fmt.Fprintf(&b, "  %s\n    %s\n", m.ID, m.Bug)
	}
	return a.out("%s", strings.TrimSuffix(b.String(), "\n"))
}
