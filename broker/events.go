package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/internal/broadcast"
	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// eventLife and maxEvents bound what is kept: a reader that was away over a long
	// weekend misses nothing, and the table stays below some 50 MB.
	eventLife = 7 * 24 * time.Hour
	maxEvents = 200_000
	// eventPage is how many events are read and sent at once.
	eventPage = 256
	// eventPoll is how often a reader looks for what another broker on the same
	// database has stored.
	eventPoll = time.Second
	// eventBeat is how often a reader whose filter lets nothing through is told how
	// far it is.
	eventBeat = 15 * time.Second
)

// event tells of a sandbox as it is now.
func event(ctx context.Context, sb *state.Sandbox, kind brokerv1.EventType) *brokerv1.Event {
	e := &brokerv1.Event{
		At: timestamppb.Now(), Type: kind, SandboxId: sb.ID(), Name: sb.Body.GetName(), Provider: sb.Body.GetProvider(),
		State: sb.Status.State, Reason: sb.Status.Reason, Tenant: sb.Tenant(), Labels: maps.Clone(sb.Body.GetLabels()),
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		e.TraceId = sc.TraceID().String()
	}
	return e
}

// changed returns what a change of status is to be told as, if it is.
func changed(ctx context.Context, sb *state.Sandbox, before lifecycle.Status) []*brokerv1.Event {
	kind := brokerv1.EventType_EVENT_TYPE_SANDBOX_STATE_CHANGED
	switch {
	case sb.Status.Gone && before.Gone, !sb.Status.Gone && sb.Status.State == before.State:
		return nil
	case sb.Status.Gone && before.Pending == lifecycle.Create:
		kind = brokerv1.EventType_EVENT_TYPE_SANDBOX_NOT_MADE
	case sb.Status.Gone:
		kind = brokerv1.EventType_EVENT_TYPE_SANDBOX_DELETED
	}
	e := event(ctx, sb, kind)
	e.PreviousState = before.State
	if sb.Status.Gone {
		e.State = providerv1.SandboxState_SANDBOX_STATE_UNSPECIFIED
	}
	return []*brokerv1.Event{e}
}

// told lets readers and the log know of a change that is stored.
func (s *Service) told(ctx context.Context, sb *state.Sandbox, before lifecycle.Status) {
	if sb.Status.State == before.State && sb.Status.Gone == before.Gone {
		return
	}
	s.watching.more.Send()
	to := lifecycle.Name(sb.Status.State)
	if sb.Status.Gone {
		to = "GONE"
	}
	s.log.DebugContext(ctx, "sandbox changed", "sandbox_id", sb.ID(), "provider", sb.Body.GetProvider(),
		"from", lifecycle.Name(before.State), "to", to, "reason", sb.Status.Reason)
}

// watching wakes readers of events, and ends them.
type watching struct {
	more  broadcast.Signal // there are more events
	ended chan struct{}    // closed when readers are to leave
	once  sync.Once
}

// EventsChanged returns a channel that is closed when this broker has stored
// another event.
func (s *Service) EventsChanged() <-chan struct{} { return s.watching.more.Next() }

// EndWatches ends all readers of events. New ones are refused.
func (s *Service) EndWatches() { s.watching.once.Do(func() { close(s.watching.ended) }) }

// watch is one reader of events.
type watch struct {
	s      *Service
	who    authz.Principal
	req    *brokerv1.WatchEventsRequest
	out    Sender[brokerv1.WatchEventsResponse]
	cursor string
	// beat is when something is sent at the latest.
	beat time.Time
}

// WatchEvents sends what happened to sandboxes that the caller sees, and what
// happens, until the caller
// leaves or the broker stops. Events that are not there any more are told of as a
// gap, and it goes on with the oldest that are.
func (s *Service) WatchEvents(ctx context.Context, req *brokerv1.WatchEventsRequest, out Sender[brokerv1.WatchEventsResponse]) error {
	who, err := s.caller(ctx)
	if err != nil {
		return err
	}
	oldest, newest, err := s.store.EventBounds(ctx)
	if err != nil {
		return state.Fault(err)
	}
	w := &watch{s: s, who: who, req: req, out: out, cursor: req.GetCursor()} // its first message comes at once
	switch {
	case req.GetFromOldest() && w.cursor != "":
		return fault.Field("cursor", w.cursor, "want no cursor beside from_oldest")
	case req.GetFromOldest():
		w.cursor = oldest
	case w.cursor == "":
		w.cursor = newest
	}
	for {
		more := s.watching.more.Next() // before looking, so that nothing comes in between
		full, err := w.send(ctx)
		if err != nil {
			return err
		}
		if full {
			continue
		}
		if req.GetUntilNow() {
			return nil
		}
		if err := w.wait(ctx, more); err != nil {
			return err
		}
	}
}

func (w *watch) wait(ctx context.Context, more <-chan struct{}) error {
	poll := time.NewTimer(eventPoll)
	defer poll.Stop()
	select {
	case <-more:
	case <-poll.C:
	case <-ctx.Done():
		return clientGone(ctx, ctx.Err())
	case <-w.s.watching.ended:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the broker is stopping; go on with the last cursor")
	}
	return nil
}

// send sends one page. It reports whether there may be another at once.
func (w *watch) send(ctx context.Context) (full bool, err error) {
	res := &brokerv1.WatchEventsResponse{}
	events, next, err := w.s.store.Events(ctx, w.cursor, eventPage)
	if errors.Is(err, state.ErrEventsGone) {
		res.Gap = &brokerv1.EventGap{Reason: fmt.Sprintf(
			"events after the cursor are gone: the broker keeps them for %d days, and at most %d, or its database is another", int(eventLife.Hours()/24), maxEvents)}
		if w.cursor, _, err = w.s.store.EventBounds(ctx); err == nil {
			events, next, err = w.s.store.Events(ctx, w.cursor, eventPage)
		}
	}
	switch {
	case errors.Is(err, state.ErrBadToken):
		return false, fault.Field("cursor", w.cursor, "want a cursor that WatchEvents sent")
	case err != nil:
		return false, state.Fault(err)
	}
	for _, e := range events {
		if w.wants(e) {
			res.Events = append(res.Events, e)
		}
	}
	w.cursor, res.Cursor = next, next
	if now := time.Now(); len(res.Events) > 0 || res.Gap != nil || !now.Before(w.beat) {
		w.beat = now.Add(eventBeat)
		if err := w.out.Send(res); err != nil {
			return false, clientGone(ctx, err)
		}
	}
	return len(events) == eventPage, nil
}

// wants reports whether an event is asked for and exists for the caller.
func (w *watch) wants(e *brokerv1.Event) bool {
	return (w.req.GetSandboxId() == "" || w.req.GetSandboxId() == e.GetSandboxId()) &&
		(w.req.GetProvider() == "" || w.req.GetProvider() == e.GetProvider()) &&
		w.who.Sees(e.GetTenant(), e.GetProvider(), e.GetLabels())
}
