package webhook

import (
	"math/rand/v2"
	"time"
)

// delays are the pauses after each failed attempt, as the specification
// recommends: more than three days in all. It has no 30 s; here the next message
// waits for this one, so a receiver that is only restarted is asked again soon.
var delays = []time.Duration{
	5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = 24 * time.Hour

// pauseAfter returns how long to wait after so many failed attempts; false if
// there is no next one. It is up to a quarter longer than the schedule, by chance,
// so that not all come back to a receiver at once, and no shorter than the receiver
// asked for.
func pauseAfter(attempts int, retryAfter time.Duration) (time.Duration, bool) {
	if attempts > len(delays) {
		return 0, false
	}
	d := delays[attempts-1]
	d += rand.N(d / 4) //nolint:gosec // spreads load, guards nothing
	return max(d, min(retryAfter, maxRetryAfter)), true
}
