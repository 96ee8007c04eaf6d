package report

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes reports for people: a table of providers and profiles,
// then for each report what was found and how it was measured.
func WriteMarkdown(w io.Writer, reports ...*Report) error {
	var b strings.Builder
	b.WriteString("# Sandbar conformance\n\n")
	if len(reports) > 0 {
		writeMatrix(&b, reports)
	}
	for _, r := range reports {
		writeOne(&b, r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// words for a verdict in a table.
var words = map[Verdict]string{Conformant: "✓ conformant", Partial: "◐ partial", Not: "✗ not", Absent: "–"}

func writeMatrix(b *strings.Builder, reports []*Report) {
	b.WriteString("| provider |")
	for _, p := range reports[0].Profiles {
		fmt.Fprintf(b, " %s |", p.Name)
	}
	b.WriteString(" verdict |\n|---|" + strings.Repeat("---|", len(reports[0].Profiles)) + "---|\n")
	for _, r := range reports {
		fmt.Fprintf(b, "| %s |", cell(r.Name()))
		for _, want := range reports[0].Profiles {
			fmt.Fprintf(b, " %s |", words[r.profile(want.Name).Verdict])
		}
		fmt.Fprintf(b, " %s |\n", words[r.Verdict])
	}
	b.WriteString("\n")
}

// Name tells reports apart: provider, version, and how it was reached.
func (r *Report) Name() string {
	name := strings.TrimSpace(r.Plugin.Name + " " + r.Plugin.Version)
	if r.Plugin.Target != "binary" {
		name += " (" + strings.ReplaceAll(r.Plugin.Target, "_", " ") + ")"
	}
	return name
}

// profile finds one; a report of another suite may lack it, which is absent.
func (r *Report) profile(name string) Profile {
	for _, p := range r.Profiles {
		if p.Name == name {
			return p
		}
	}
	return Profile{Name: name, Verdict: Absent, Reason: "the suite of this report does not have it"}
}

func writeOne(b *strings.Builder, r *Report) {
	all, executed := r.Totals()
	fmt.Fprintf(b, "## %s\n\n%s. Suite %s on %s/%s, Linux %s, as %s; %d MUST cases executed, %d passed, %d failed, %d skipped; %s.\n",
		cell(r.Name()), upper(r.Summary()), r.Suite.Version, r.Environment.OS, r.Environment.Arch, cell(r.Environment.Kernel),
		userWords(r), executed, all.Pass, all.Fail+all.UnexpectedPass, all.Skip, r.Run.Told())
	if r.Plugin.SHA256 != "" {
		fmt.Fprintf(b, "\nBinary: `sha256:%s`\n", r.Plugin.SHA256)
	}
	writeReasons(b, r)
	writeFindings(b, r)
	if len(r.Measurements) > 0 {
		b.WriteString("\n| measured | n | p50 | p95 |\n|---|---:|---:|---:|\n")
		for _, m := range r.Measurements {
			fmt.Fprintf(b, "| %s | %d | %.1f ms | %.1f ms |\n", cell(m.Name), m.Count, m.P50MS, m.P95MS)
		}
	}
	fmt.Fprintf(b, "\nReproduce: `%s`\n", reproduce(r))
	fmt.Fprintf(b, "\nCapabilities: %d verified, %d declared and not verified, %d refused, %d not checked.\n\n",
		len(r.Capabilities.Verified), len(r.Capabilities.Unverified), len(r.Capabilities.Refused), len(r.Capabilities.Unchecked))
}

// reproduce is a command that runs the same cases in the same order.
func reproduce(r *Report) string {
	command := "sandbar conformance run --plugin sandbar-provider-" + r.Plugin.Name
	if r.Plugin.Target == "broker" {
		command = "sandbar conformance run --broker --provider " + r.Plugin.Name
	}
	if len(r.Run.Patterns) > 0 {
		command += " --case '" + strings.Join(r.Run.Patterns, ",") + "'"
	}
	return command + " " + r.Run.Flags()
}

func userWords(r *Report) string {
	if r.Environment.User == "root" {
		return "root"
	}
	return "an ordinary user"
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func writeReasons(b *strings.Builder, r *Report) {
	open := false
	for _, p := range r.Profiles {
		if p.Verdict == Conformant {
			continue
		}
		if !open {
			b.WriteString("\n| profile | verdict | why |\n|---|---|---|\n")
			open = true
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", p.Name, words[p.Verdict], cell(p.Reason))
	}
}

// writeFindings lists cases that neither passed nor were skipped.
func writeFindings(b *strings.Builder, r *Report) {
	open := false
	for _, c := range r.Cases {
		if c.Outcome == Pass || c.Outcome == Skip {
			continue
		}
		if !open {
			b.WriteString("\n| case | level | outcome | finding |\n|---|---|---|---|\n")
			open = true
		}
		finding := "it passed, and stands among the known failures"
		if len(c.Problems) > 0 {
			finding = c.Problems[0]
		}
		if c.Outcome == KnownFail {
			finding += " (known" + r.knownText(c.ID) + ")"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", c.ID, c.Level, strings.ReplaceAll(c.Outcome, "_", " "), cell(finding))
	}
}

// cell keeps text inside its cell of a table, and Markdown and HTML out of it.
func cell(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "`", "'", "*", `\*`, "[", `\[`).Replace(s)
}
