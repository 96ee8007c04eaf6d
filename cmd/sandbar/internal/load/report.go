package load

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/bench"
)

// Report is what a run measured. The JSON names are stable.
type Report struct {
	StartedAt time.Time         `json:"started_at"`
	TookMS    float64           `json:"took_ms"`
	Facts     map[string]string `json:"facts,omitempty"`
	TTI       []*Series         `json:"tti"`
	Exec      *Series           `json:"exec,omitempty"`
	Stream    *Series           `json:"stream,omitempty"`
	// StreamBytes is what one round of Stream transfers.
	StreamBytes int64 `json:"stream_bytes,omitempty"`
	// Unclaimed counts sandboxes that were there though their creation had failed
	// or run out of time. They were removed.
	Unclaimed int `json:"unclaimed"`
	// Leaked are the sandboxes that are still there after everything was removed.
	Leaked []string `json:"leaked"`
}

// Series is many rounds of one thing. Its methods may be called at any
// concurrency until end.
type Series struct {
	Mode        Mode    `json:"mode"`
	Asked       int     `json:"asked"`
	Succeeded   int     `json:"succeeded"`
	SuccessRate float64 `json:"success_rate"`
	MinMS       float64 `json:"min_ms"`
	P50MS       float64 `json:"p50_ms"`
	P95MS       float64 `json:"p95_ms"`
	P99MS       float64 `json:"p99_ms"`
	MaxMS       float64 `json:"max_ms"`
	// WallMS is from the first start to the last end, FirstMS to the first end.
	WallMS  float64 `json:"wall_ms"`
	FirstMS float64 `json:"first_ms"`
	// Rounds are all of them, in the order in which they ended.
	Rounds []Round `json:"rounds"`

	mu       sync.Mutex
	began    time.Time
	progress func(Progress)
}

// Round is one of them. Untried ones have no times.
type Round struct {
	// OffsetMS is when it started, after the first.
	OffsetMS float64 `json:"offset_ms"`
	TookMS   float64 `json:"took_ms"`
	Error    string  `json:"error,omitempty"`
}

func newSeries(m Mode, asked int, progress func(Progress)) *Series {
	s := &Series{Mode: m, Asked: asked, began: time.Now(), progress: progress}
	s.tell()
	return s
}

func (s *Series) add(began time.Time, took time.Duration, err error) {
	round := Round{OffsetMS: milliseconds(began.Sub(s.began)), TookMS: milliseconds(took)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		round.Error = err.Error()
	} else {
		s.Succeeded++
	}
	s.Rounds = append(s.Rounds, round)
	s.tell()
}

// miss counts rounds that there was no time for.
func (s *Series) miss(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.Rounds = append(s.Rounds, Round{Error: err.Error()})
	}
	s.tell()
}

func (s *Series) tell() {
	if s.progress != nil {
		s.progress(Progress{Mode: s.Mode, Done: len(s.Rounds), Failed: len(s.Rounds) - s.Succeeded, Total: s.Asked})
	}
}

// end computes the rest from the rounds. Nothing is trimmed.
func (s *Series) end() {
	var took bench.Durations
	first := math.Inf(1)
	for _, r := range s.Rounds {
		if r.Error != "" {
			continue
		}
		took = append(took, duration(r.TookMS))
		s.WallMS = max(s.WallMS, r.OffsetMS+r.TookMS)
		first = min(first, r.OffsetMS+r.TookMS)
	}
	s.SuccessRate = float64(s.Succeeded) / float64(s.Asked)
	if len(took) == 0 {
		return
	}
	s.FirstMS = first
	s.MinMS, s.MaxMS = milliseconds(took.Quantile(0)), milliseconds(took.Quantile(1))
	s.P50MS, s.P95MS, s.P99MS = milliseconds(took.Quantile(.5)), milliseconds(took.Quantile(.95)), milliseconds(took.Quantile(.99))
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Millisecond)*1000) / 1000
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// all are the series that were measured.
func (r *Report) all() []*Series {
	out := slices.Clone(r.TTI)
	return slices.DeleteFunc(append(out, r.Exec, r.Stream), func(s *Series) bool { return s == nil })
}

// Failure says in what a run falls short of a success rate, from 0 to 1, or "".
func (r *Report) Failure(least float64) string {
	var out []string
	if n := len(r.Leaked); n > 0 {
		out = append(out, fmt.Sprintf("%d sandboxes are left: %s", n, strings.Join(r.Leaked, ", ")))
	}
	for _, s := range r.all() {
		if s.SuccessRate < least {
			out = append(out, fmt.Sprintf("%s: %d of %d succeeded: want at least %.4g %%", s.Mode, s.Succeeded, s.Asked, least*100))
		}
	}
	return strings.Join(out, "; ")
}

var meanings = map[Mode]string{
	Sequential: "create → first command done, one after the other",
	Staggered:  "create → first command done, one more at each interval",
	Burst:      "create → first command done, all at once",
	Exec:       "a command in a sandbox that runs",
	Stream:     "standard output to the client",
}

// WriteMarkdown writes the report as tables.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Facts)) {
		fmt.Fprintf(&b, "- %s: %s\n", k, cell(r.Facts[k]))
	}
	b.WriteString("\n| what | succeeded | p50 | p95 | p99 | max | first | all | meaning |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.all() {
		show := func(ms float64) string {
			switch {
			case s.Succeeded == 0:
				return "–"
			case s.Mode == Stream:
				return fmt.Sprintf("%.0f MiB/s", float64(r.StreamBytes)/(1<<20)/(ms/1000))
			}
			return bench.Milliseconds(duration(ms))
		}
		ends := []string{bench.Milliseconds(duration(s.FirstMS)), bench.Milliseconds(duration(s.WallMS))}
		if s.Succeeded == 0 {
			ends = []string{"–", "–"}
		}
		fmt.Fprintf(&b, "| %s | %d of %d | %s | %s | %s | %s | %s | %s | %s |\n", s.Mode, s.Succeeded, s.Asked,
			show(s.P50MS), show(s.P95MS), show(s.P99MS), show(s.MaxMS), ends[0], ends[1], meanings[s.Mode])
	}
	fmt.Fprintf(&b, "\nLeft at the end, by listing: %d. Found and removed though their creation had failed: %d.\n", len(r.Leaked), r.Unclaimed)
	r.writeErrors(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeErrors writes which errors there were and how often.
func (r *Report) writeErrors(b *strings.Builder) {
	type failure struct {
		mode  Mode
		error string
	}
	counts := map[failure]int{}
	for _, s := range r.all() {
		for _, round := range s.Rounds {
			if round.Error != "" {
				counts[failure{s.Mode, round.Error}]++
			}
		}
	}
	if len(counts) == 0 {
		return
	}
	b.WriteString("\n| what | failed | error |\n|---|---|---|\n")
	keys := slices.SortedFunc(maps.Keys(counts), func(x, y failure) int {
		return cmp.Or(counts[y]-counts[x], cmp.Compare(x.mode, y.mode), cmp.Compare(x.error, y.error))
	})
	for _, f := range keys {
		fmt.Fprintf(b, "| %s | %d | %s |\n", f.mode, counts[f], cell(f.error))
	}
}

// cell keeps text from ending its cell.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }
