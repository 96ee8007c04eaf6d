package bench

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantile(t *testing.T) {
	d := Durations{4, 1, 3, 2}
	for q, want := range map[float64]time.Duration{0: 1, 0.25: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		if got := d.Quantile(q); got != want {
			t.Errorf("Quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if got := (Durations{}).Quantile(0.5); got != 0 {
		t.Errorf("quantile of no rounds is %v, want 0", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Durations(rapid.SliceOfN(rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }), 1, 50).Draw(t, "d"))
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		got, below := d.Quantile(q), 0
		for _, v := range d {
			if v <= got {
				below++
			}
		}
		if float64(below) < q*float64(len(d)) {
			t.Fatalf("%d of %d rounds are within Quantile(%v)", below, len(d), q)
		}
	})
}

func TestRateIsOfTheSlowEnd(t *testing.T) {
	row := Rate("x", "", 64<<20, Durations{time.Second, 2 * time.Second, 4 * time.Second}, "")
	if row.P50 != "32 MiB/s" || row.P99 != "16 MiB/s" {
		t.Errorf("rates are %s and %s, want 32 MiB/s and 16 MiB/s", row.P50, row.P99)
	}
}

func TestWriteMarkdown(t *testing.T) {
	r := &Report{
		Facts:    [][2]string{{"date", "today"}},
		Sections: []Section{{Title: "Exec", Rows: []Row{Timed("a|b", "≤ 8 ms", Durations{1500 * time.Microsecond}, "why")}}},
		Caveats:  []string{"one machine"},
	}
	var b strings.Builder
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"- date: today\n", "## Exec\n", `| a\|b | ≤ 8 ms | 1.50 ms | 1.50 ms | 1 | why |`, "- one machine\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, b.String())
		}
	}
}
