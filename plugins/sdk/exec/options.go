package exec

import (
	"log/slog"
	"time"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Options of a Table. Zero values mean the defaults.
type Options struct {
	// Retain is how many bytes of each stream are kept for replay: 1 MiB.
	Retain int
	// StdinWindow is how much accepted stdin may wait for the command:
	// handshake.StdinWindowBytes.
	StdinWindow int
	// KeepFinished is how many ended commands are kept for reading: 256.
	KeepFinished int
	// KeepFor is how long an ended command is kept: 10 minutes.
	KeepFor time.Duration
	// Drain is how long streams without a terminal are read on after the lead
	// process ended, while a descendant holds them open: 5 s. Time in which the
	// reader side is full does not count.
	Drain time.Duration
	// TerminalDrain is the same for a terminal: 250 ms, for output that is still
	// on its way.
	TerminalDrain time.Duration
	// Logger receives what no caller can be told; default: discard.
	Logger *slog.Logger
	// Now is the clock; default time.Now. Timers are always real (or a synctest
	// bubble's).
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Retain = orDefault(o.Retain, 1<<20)
	o.StdinWindow = orDefault(o.StdinWindow, handshake.StdinWindowBytes)
	o.KeepFinished = orDefault(o.KeepFinished, 256)
	o.KeepFor = orDefault(o.KeepFor, 10*time.Minute)
	o.Drain = orDefault(o.Drain, 5*time.Second)
	o.TerminalDrain = orDefault(o.TerminalDrain, 250*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func (o Options) now() time.Time { return o.Now() }
