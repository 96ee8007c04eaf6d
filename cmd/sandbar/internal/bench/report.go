package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Durations are the times of many rounds of one thing.
type Durations []time.Duration

// Quantile returns the smallest time that at least q of the rounds did not
// exceed, so that p100 is the slowest round. No rounds: 0.
func (d Durations) Quantile(q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// Minus returns the differences of two series measured in pairs.
func (d Durations) Minus(other Durations) Durations {
	out := make(Durations, min(len(d), len(other)))
	for i := range out {
		out[i] = d[i] - other[i]
	}
	return out
}

// Milliseconds formats a time for a table.
func Milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if math.Abs(ms) < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// mebibytes formats a size for a table.
func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }

// Row is one measured thing. Cells are as they stand in the table.
type Row struct {
	What, Target, P50, P99, Rounds, Meaning string
}

// Timed is the row of a series.
func Timed(what, target string, d Durations, meaning string) Row {
	return Row{
		What: what, Target: target, P50: Milliseconds(d.Quantile(0.5)), P99: Milliseconds(d.Quantile(0.99)),
		Rounds: strconv.Itoa(len(d)), Meaning: meaning,
	}
}

// Rate is the row of a transfer of the same size in every round. The p99 is that
// of the time, that is the slow end.
func Rate(what, target string, bytes int64, d Durations, meaning string) Row {
	rate := func(t time.Duration) string {
		return fmt.Sprintf("%.0f MiB/s", float64(bytes)/(1<<20)/t.Seconds())
	}
	if len(d) == 0 {
		return Row{What: what, Target: target, Meaning: meaning}
	}
	return Row{
		What: what, Target: target, P50: rate(d.Quantile(0.5)), P99: rate(d.Quantile(0.99)),
		Rounds: strconv.Itoa(len(d)), Meaning: meaning,
	}
}

// Section is a table of rows.
type Section struct {
	Title string
	Rows  []Row
}

// Report is a page of measurements.
type Report struct {
	// Facts describe the machine and the run, in order.
	Facts    [][2]string
	Sections []Section
	// Caveats are what a reader must know before believing a number.
	Caveats []string
}

// WriteMarkdown writes the page.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Performance\n\nWritten by `make bench`; do not edit. Every number goes through the real binaries, and its baseline was measured in the same run.\n\n")
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "- %s: %s\n", f[0], f[1])
	}
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "\n## %s\n\n| what | target | p50 | p99 | rounds | meaning |\n|---|---|---|---|---|---|\n", s.Title)
		for _, row := range s.Rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
				cell(row.What), cell(row.Target), cell(row.P50), cell(row.P99), cell(row.Rounds), cell(row.Meaning))
		}
	}
	b.WriteString("\n## How to read it\n\n")
	for _, c := range r.Caveats {
		fmt.Fprintf(&b, "- %s\n", c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell keeps text from ending its cell.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }
