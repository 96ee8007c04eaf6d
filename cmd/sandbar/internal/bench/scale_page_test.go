package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestScalePage: what is measured is on the page, and its plot is well-formed.
func TestScalePage(t *testing.T) {
	p := &ScalePage{
		Facts: [][2]string{{"date", "2026-01-01"}},
		Sizes: []ScaleSize{
			{Sandboxes: 1000, Made: 1000, Filled: 10 * time.Second, Get: Durations{time.Millisecond}, Broker: 50 << 20, Disk: 1 << 20, Rows: 4000},
			{Sandboxes: 11_000, Made: 10_000, Filled: 50 * time.Second, Get: Durations{2 * time.Millisecond}, Broker: 60 << 20, Disk: 21 << 20, Rows: 44_000},
		},
		Streams: ScaleStreams{Streams: 7, Opened: time.Second, Echo: Durations{3 * time.Millisecond}, Each: 2048},
	}
	text := p.Markdown("x.svg")
	for _, want := range []string{
		"- date: 2026-01-01", "| 1000 | 100 | 1.00 ms |", "| 11000 | 200 | 2.00 ms |", "](x.svg)",
		"each takes 1048 bytes of the broker's memory, 2097 of the database and 4.0 rows", "| 7 | 1.0 s | 3.00 ms | 3.00 ms | 1 |", "| 2 KiB |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	d := xml.NewDecoder(strings.NewReader(p.Plot()))
	drawn := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "circle" {
			drawn++
		}
	}
	if drawn != 4 {
		t.Errorf("%d points are drawn, want 4", drawn)
	}
}

func TestNice(t *testing.T) {
	for v, want := range map[float64]float64{0.3: 0.4, 1: 1, 1.1: 2, 60: 80, 81: 100, 500: 800} {
		if got := nice(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("nice(%v) is %v, want %v", v, got, want)
		}
	}
}
