package state

import (
	"context"
	"errors"
	"time"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// ErrEventsGone says that events after a cursor are not there any more, or that
// the cursor is another database's.
var ErrEventsGone = errors.New("events after the cursor are gone")

// Events keeps what happened to sandboxes. They are stored with the change that
// they tell of, by InsertSandboxes, UpdateSandbox and RemoveSandbox, and have one
// order. A cursor is a position in it, between two events.
type Events interface {
	// Events returns at most limit events after a cursor, the oldest first, with
	// their cursors, and the cursor to go on with. An event that is stored after one
	// was returned comes after it. ErrEventsGone; ErrBadToken for what no store gave.
	Events(ctx context.Context, cursor string, limit int) ([]*brokerv1.Event, string, error)
	// EventBounds returns the cursors before the oldest event that is kept and after
	// the newest.
	EventBounds(ctx context.Context) (oldest, newest string, err error)
	// PurgeEvents drops events from before cutoff, and the oldest of more than keep.
	PurgeEvents(ctx context.Context, cutoff time.Time, keep int) error
}
