package load

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Target is a broker, as far as a measurement needs it. Its methods are called by
// many goroutines.
type Target interface {
	// Create makes a sandbox and returns when it can be used.
	Create(ctx context.Context) (id string, err error)
	// Exec runs a command to its end. Anything but exit code 0 with all of its
	// output is an error.
	Exec(ctx context.Context, id string, argv []string, stdout io.Writer) error
	// Remove removes a sandbox.
	Remove(ctx context.Context, id string) error
	// List returns the sandboxes that Create made, whether or not it said so.
	List(ctx context.Context) ([]string, error)
}

// Mode is one way of measuring.
type Mode string

// The modes. The first three measure TTI: one sandbox after the other; one more at
// fixed intervals; all at once. Exec and Stream measure inside one sandbox.
const (
	Sequential Mode = "sequential"
	Staggered  Mode = "staggered"
	Burst      Mode = "burst"
	Exec       Mode = "exec"
	Stream     Mode = "stream"
)

// Modes are all of them, in the order in which they are measured.
var Modes = []Mode{Sequential, Staggered, Burst, Exec, Stream}

// Plan says what to measure.
type Plan struct {
	Modes []Mode
	// Count is how many sandboxes each of the first three modes makes.
	Count int
	// Concurrency is how many may be alive at once.
	Concurrency int
	// Stagger is the time between two starts of Staggered.
	Stagger time.Duration
	// Timeout is how long one sandbox, command or transfer may take.
	Timeout time.Duration
	// Limit is how long all of it may take, without the clean-up. What has not been
	// tried by then counts as failed.
	Limit time.Duration
	// Execs is how many commands Exec runs.
	Execs int
	// StreamBytes is how much Stream transfers, StreamRounds how often.
	StreamBytes  int64
	StreamRounds int
}

// The bounds keep a slip of the finger from becoming an attack.
const (
	maxCount  = 10_000
	maxStream = 16 << 30
)

// Check says what is wrong with a plan, naming the field.
func (p *Plan) Check() error {
	for _, m := range p.Modes {
		if !slices.Contains(Modes, m) {
			return fmt.Errorf("mode is %q: want one of %v", m, Modes)
		}
	}
	for _, b := range []struct {
		field     string
		value     int64
		low, high int64
	}{
		{"modes", int64(len(p.Modes)), 1, int64(len(Modes))},
		{"count", int64(p.Count), 1, maxCount},
		{"concurrency", int64(p.Concurrency), 1, maxCount},
		{"execs", int64(p.Execs), 1, maxCount},
		{"stream size", p.StreamBytes, block, maxStream},
		{"stream rounds", int64(p.StreamRounds), 1, maxCount},
	} {
		if b.value < b.low || b.value > b.high {
			return fmt.Errorf("%s is %d: want %d to %d", b.field, b.value, b.low, b.high)
		}
	}
	return nil
}

// Progress is how far one mode is.
type Progress struct {
	Mode                Mode
	Done, Failed, Total int
}
