package telemetry

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// slotLength and slots make up what is remembered: the last minute, in pieces that
	// are forgotten one by one.
	slotLength = 5 * time.Second
	slots      = 12
)

// Activity is what happened at one provider within some time.
type Activity struct {
	// Creates are sandboxes that were asked for: created, restored, forked. Changes
	// are all other operations. Starts are commands that were started.
	Creates, Changes, Starts Tally
	// Streams is how many are open now.
	Streams int
}

// Tally counts calls of one kind.
type Tally struct {
	OK, Failed int64
	// P50 and P95 are how long half of those that succeeded took at most, and
	// nineteen of twenty, as far as buckets tell. Zero: none did.
	P50, P95 time.Duration
}

// recent remembers what happened lately.
type recent struct {
	began time.Time

	mu        sync.Mutex
	providers map[string]*history
}

// history is one provider's; a slot is of the moment that it says.
type history struct {
	slots   [slots]slot
	streams int
}

type slot struct {
	moment int64
	kinds  [kinds]count
}

// kind is what is counted apart.
type kind int

const (
	creating kind = iota
	changing
	starting
	kinds
)

// count has how many failed, and those that succeeded by how long they took.
type count struct {
	failed int64
	took   []int64 // by bucket: up to seconds[i], and one more above all
}

func newRecent() *recent { return &recent{began: time.Now(), providers: make(map[string]*history)} }

// moment is the number of the slot that a time belongs to.
func (r *recent) moment(at time.Time) int64 { return int64(at.Sub(r.began) / slotLength) }

// of returns a provider's history; the lock is held.
func (r *recent) of(provider string) *history {
	h := r.providers[provider]
	if h == nil {
		h = &history{}
		r.providers[provider] = h
	}
	return h
}

func (r *recent) add(provider string, k kind, took time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.moment(time.Now())
	s := &r.of(provider).slots[now%slots]
	if s.moment != now {
		*s = slot{moment: now}
	}
	c := &s.kinds[k]
	if !ok {
		c.failed++
		return
	}
	if c.took == nil {
		c.took = make([]int64, len(seconds)+1)
	}
	i, _ := slices.BinarySearch(seconds, took.Seconds())
	c.took[i]++
}

func (r *recent) stream(provider string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(provider).streams += n
}

// activity returns what happened within the last minute, or since there is
// somebody who counts; window is how long that is.
func (r *recent) activity() (window time.Duration, _ map[string]Activity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := time.Since(r.began)
	now := int64(age / slotLength)
	window = age
	if first := now - slots + 1; first > 0 {
		window = age - time.Duration(first)*slotLength
	}
	out := make(map[string]Activity, len(r.providers))
	for name, h := range r.providers {
		a := Activity{Streams: h.streams}
		for k, to := range map[kind]*Tally{creating: &a.Creates, changing: &a.Changes, starting: &a.Starts} {
			*to = h.tally(k, now)
		}
		out[name] = a
	}
	return window, out
}

func (h *history) tally(k kind, now int64) Tally {
	var t Tally
	took := make([]int64, len(seconds)+1)
	for _, s := range h.slots {
		if s.moment <= now-slots {
			continue
		}
		t.Failed += s.kinds[k].failed
		for i, n := range s.kinds[k].took {
			took[i] += n
			t.OK += n
		}
	}
	t.P50, t.P95 = quantile(took, t.OK, 0.5), quantile(took, t.OK, 0.95)
	return t
}

// quantile estimates one as Prometheus does: evenly within a bucket, and the last
// bound for what is above all.
func quantile(took []int64, total int64, q float64) time.Duration {
	if total == 0 {
		return 0
	}
	rank, below := q*float64(total), 0.0
	for i, n := range took {
		if below+float64(n) < rank || n == 0 {
			below += float64(n)
			continue
		}
		if i == len(seconds) {
			break
		}
		low := 0.0
		if i > 0 {
			low = seconds[i-1]
		}
		at := low + (seconds[i]-low)*(rank-below)/float64(n)
		return time.Duration(math.Round(at * float64(time.Second)))
	}
	return time.Duration(seconds[len(seconds)-1] * float64(time.Second))
}
