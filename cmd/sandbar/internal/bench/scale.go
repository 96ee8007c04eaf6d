package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ScaleSize is what was measured with so many sandboxes. Sizes are in bytes.
type ScaleSize struct {
	Sandboxes, Made  int
	Filled           time.Duration
	Get, List, Life  Durations
	Broker, Provider int64
	Disk, Rows       int64
}

// ScaleStreams is what was measured while so many commands were followed.
type ScaleStreams struct {
	Streams          int
	Opened           time.Duration
	Echo, Get        Durations
	Broker, Provider int64
	// Each is what a stream adds to the broker.
	Each int64
}

// ScalePage is a page about a broker that grows.
type ScalePage struct {
	Facts   [][2]string
	Sizes   []ScaleSize
	Streams ScaleStreams
}

// Markdown returns the page; plot is the name of its picture.
func (p *ScalePage) Markdown(plot string) string {
	var b strings.Builder
	b.WriteString("# Scale\n\nWritten by `make scale`; do not edit. A broker with SQLite and the fake provider, as real processes, is filled with sandboxes over its API.\n\n")
	for _, f := range p.Facts {
		fmt.Fprintf(&b, "- %s: %s\n", f[0], f[1])
	}
	b.WriteString("\n## Sandboxes\n\n| sandboxes | creates/s | get p50 | get p99 | first page of a list p50 | p99 | create and delete p50 | p99 | broker | provider | database | rows |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	q := func(d Durations, q float64) string { return Milliseconds(d.Quantile(q)) }
	for _, s := range p.Sizes {
		fmt.Fprintf(&b, "| %d | %.0f | %s | %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", s.Sandboxes, float64(s.Made)/s.Filled.Seconds(),
			q(s.Get, .5), q(s.Get, .99), q(s.List, .5), q(s.List, .99), q(s.Life, .5), q(s.Life, .99),
			mebibytes(s.Broker), mebibytes(s.Provider), mebibytes(s.Disk), s.Rows)
	}
	fmt.Fprintf(&b, "\nTargets with 100,000: get p99 at most 10 ms, broker at most 1 GiB.\n\n![Memory and database by number of sandboxes](%s)\n", plot)
	if n := len(p.Sizes); n > 1 {
		first, last := p.Sizes[0], p.Sizes[n-1]
		more := int64(last.Sandboxes - first.Sandboxes)
		fmt.Fprintf(&b, "\nBetween %d and %d sandboxes each takes %d bytes of the broker's memory, %d of the database and %.1f rows: the sandbox, its label,\n"+
			"why it is where it is, and what happened to it.\n", first.Sandboxes, last.Sandboxes,
			(last.Broker-first.Broker)/more, (last.Disk-first.Disk)/more, float64(last.Rows-first.Rows)/float64(more))
	}
	s := p.Streams
	fmt.Fprintf(&b, "\n## Streams\n\n%d commands are followed at once in the filled broker; each gets a line a second and sends it back.\n\n"+
		"| streams | opened in | line there and back p50 | p99 | lines | get p50 | get p99 | broker | a stream | provider |\n|---|---|---|---|---|---|---|---|---|---|\n"+
		"| %d | %.1f s | %s | %s | %d | %s | %s | %s | %.0f KiB | %s |\n", s.Streams, s.Streams, s.Opened.Seconds(),
		q(s.Echo, .5), q(s.Echo, .99), len(s.Echo), q(s.Get, .5), q(s.Get, .99), mebibytes(s.Broker), float64(s.Each)/(1<<10), mebibytes(s.Provider))
	b.WriteString("\nThe client of all streams, the broker and the provider share the processors of one machine.\n")
	return b.String()
}

// Size and borders of the plot.
const (
	plotWidth, plotHeight   = 640, 320
	plotLeft, plotRight     = 70, 150
	plotTop, plotBottom     = 20, 45
	plotTicks, plotFontSize = 4, 12
)

// Plot returns the memory of the broker and the size of the database by number of
// sandboxes, as an SVG for light and dark pages.
func (p *ScalePage) Plot() string {
	maxN, maxB := 1, int64(1)
	for _, s := range p.Sizes {
		maxN, maxB = max(maxN, s.Sandboxes), max(maxB, s.Broker, s.Disk)
	}
	top := nice(float64(maxB) / (1 << 20))
	x := func(n int) float64 {
		return plotLeft + float64(n)/float64(maxN)*(plotWidth-plotLeft-plotRight)
	}
	y := func(mebibytes float64) float64 {
		return plotHeight - plotBottom - mebibytes/top*(plotHeight-plotTop-plotBottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d" role="img" aria-label="Memory of the broker and size of its database by number of sandboxes">
<style>:root{--ink:#222;--faint:#ccc;--a:#0b6bcb;--b:#b4540a}@media (prefers-color-scheme:dark){:root{--ink:#ddd;--faint:#555;--a:#6cb6ff;--b:#f0a35e}}</style>
`, plotWidth, plotHeight, plotFontSize)
	for i := range plotTicks + 1 {
		v := top * float64(i) / plotTicks
		n := maxN * i / plotTicks
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="var(--faint)"/><text x="%d" y="%.1f" text-anchor="end" fill="var(--ink)">%s MiB</text><text x="%.1f" y="%d" text-anchor="middle" fill="var(--ink)">%d</text>
`, plotLeft, plotWidth-plotRight, y(v), y(v), plotLeft-8, y(v)+4, strconv.FormatFloat(v, 'f', -1, 64), x(n), plotHeight-plotBottom+18, n)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="var(--ink)">sandboxes</text>
`, x(maxN/2), plotHeight-8)
	p.curve(&b, "memory of the broker", "var(--a)", x, y, func(s ScaleSize) int64 { return s.Broker })
	p.curve(&b, "database", "var(--b)", x, y, func(s ScaleSize) int64 { return s.Disk })
	b.WriteString("</svg>\n")
	return b.String()
}

func (p *ScalePage) curve(b *strings.Builder, name, color string, x func(int) float64, y func(float64) float64, of func(ScaleSize) int64) {
	var points []string
	var lastX, lastY float64
	for _, s := range p.Sizes {
		lastX, lastY = x(s.Sandboxes), y(float64(of(s))/(1<<20))
		points = append(points, fmt.Sprintf("%.1f,%.1f", lastX, lastY))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, lastX, lastY, color)
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%.1f" y="%.1f" fill="%s">%s</text>
`, strings.Join(points, " "), color, lastX+8, lastY+4, color, name)
}

// nice returns a round number that is not below v and that quarters are round of.
func nice(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 8, 10} {
		if v <= step*unit {
			return step * unit
		}
	}
	return v
}
