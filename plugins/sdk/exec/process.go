package exec

import (
	"context"
	"io"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Process is one running command, made by a driver and owned by the Table, which
// calls Wait exactly once and Close exactly once.
type Process interface {
	// Stdin is nil unless the spec asked for it. Closing it is the half-close; it
	// is closed at most once. If it has SetWriteDeadline, as pipes of package os
	// have, Freeze can interrupt a write at an exact byte.
	Stdin() io.WriteCloser
	// Stdout delivers the terminal's output when the spec has one.
	Stdout() io.Reader
	// Stderr is nil when the spec has a terminal.
	Stderr() io.Reader
	// Wait returns when the lead process ended. An error means that the end
	// cannot be known; the exec then ends with cause UNKNOWN, never with exit 0.
	// It returns early, with an error, when ctx ends.
	Wait(ctx context.Context) (*providerv1.ExitStatus, error)
	// Signal signals the process group. Called only if exec.signal is declared,
	// and to kill on timeout; may be called after the end and is then a no-op.
	Signal(ctx context.Context, signal providerv1.ExecSignal) error
	// Resize is called only if exec.pty is declared.
	Resize(ctx context.Context, size *providerv1.Terminal) error
	// Close frees what Stdin, Stdout and Stderr hold, and makes pending reads and
	// writes on them return. It does not kill. It comes after Wait and after both
	// readers ended, or after the drain time, or when the exec is abandoned
	// because the plugin stops.
	Close() error
}

// readDeadliner, writeDeadliner and emptier are what Freeze uses where streams
// have them.
type (
	readDeadliner  interface{ SetReadDeadline(t time.Time) error }
	writeDeadliner interface{ SetWriteDeadline(t time.Time) error }
	// emptier tells whether a Read would have to wait: there is nothing, and not
	// the end either.
	emptier interface{ Empty() bool }
)

// beginner is a Process that says when it was asked for, because the news that it runs
// takes a while: its record begins then, so that it never seems shorter than it was.
// Its time limit counts from when it is known to run.
type beginner interface{ Began() time.Time }
