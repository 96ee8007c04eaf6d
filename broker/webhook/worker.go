package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	// eventPage is how many events are read at once.
	eventPage = 256
	// passedFor is how long a cursor is not stored that only passed over events that
	// the webhook does not want: a crash makes them be looked at again.
	passedFor = time.Minute
	// storeRetry is the pause after trouble with the store.
	storeRetry = 5 * time.Second
	// maxReason bounds what is stored of why a webhook fails.
	maxReason = 255
)

// worker delivers to one webhook while this broker holds it.
type worker struct {
	s      *Service
	id     string
	cancel context.CancelFunc
	done   chan struct{}
	// poked has room for one: the webhook was changed by somebody else.
	poked chan struct{}
	// version is that of the webhook, as the worker knows it.
	version atomic.Int64

	// The rest is the worker's own. at is how far the log was looked through; the
	// stored cursor may be behind it. stored is when that one was stored last.
	at     string
	stored time.Time
	busy   bool
}

// work starts a worker.
func (s *Service) work(ctx context.Context, id string) *worker {
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{s: s, id: id, cancel: cancel, done: make(chan struct{}), poked: make(chan struct{}, 1), stored: time.Now()}
	go func() {
		defer close(w.done)
		defer cancel()
		defer w.setBusy(false)
		w.run(ctx)
	}()
	return w
}

func (k *worker) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// tell wakes the worker if the webhook is not as it knows it.
func (k *worker) tell(version int64) {
	if k.version.Load() == version {
		return
	}
	select {
	case k.poked <- struct{}{}:
	default:
	}
}

func (k *worker) setBusy(busy bool) {
	switch {
	case busy && !k.busy:
		k.s.busy.Add(1)
	case !busy && k.busy:
		k.s.busy.Add(-1)
	}
	k.busy = busy
}

// next says when a worker goes on: when there are events, or after a time, or at
// once.
type next struct {
	events bool
	after  time.Duration
	now    bool
}

// errNotOurs ends a worker: the webhook is gone, disabled, or another broker's.
var errNotOurs = errors.New("the webhook is not ours to deliver to")

func (k *worker) run(ctx context.Context) {
	for {
		more := k.s.more.Next() // before looking, so that nothing comes in between
		n, err := k.step(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, errNotOurs):
			return
		case errors.Is(err, state.ErrConflict):
			continue // somebody changed it: it is read again
		case err != nil:
			k.s.logged(ctx, "webhook waits", err, "webhook_id", k.id)
			n = next{after: storeRetry}
		}
		if n.now {
			continue
		}
		if !n.events {
			more = nil
		}
		if !k.wait(ctx, more, n.after) {
			return
		}
	}
}

// wait waits for events, for the time, or for a change; false if ctx ends.
func (k *worker) wait(ctx context.Context, more <-chan struct{}, after time.Duration) bool {
	var timer <-chan time.Time
	if after > 0 {
		t := time.NewTimer(after)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-more:
	case <-timer:
	case <-k.poked:
	}
	return true
}

// step reads how the webhook is now and delivers what can be delivered.
func (k *worker) step(ctx context.Context) (next, error) {
	w, err := k.s.store.Webhook(ctx, k.id)
	if errors.Is(err, state.ErrNotFound) {
		return next{}, errNotOurs
	}
	if err != nil {
		return next{}, err
	}
	if w.Disabled() || w.Holder != k.s.opts.Holder {
		return next{}, errNotOurs
	}
	if k.at == "" || w.Version != k.version.Load() {
		k.version.Store(w.Version)
		k.at = w.Body.GetCursor()
	}
	if due := w.Body.GetNextAttemptAt(); due != nil {
		if d := time.Until(due.AsTime()); d > 0 {
			k.setBusy(true)
			return next{after: d}, nil
		}
	}
	events, end, err := k.s.store.Events(ctx, k.at, eventPage)
	if errors.Is(err, state.ErrEventsGone) || errors.Is(err, state.ErrBadToken) {
		return k.gap(ctx, w)
	}
	if err != nil {
		return next{}, err
	}
	for _, e := range events {
		if wants(w.Body, e) {
			if ok, n, err := k.event(ctx, w, e); !ok || err != nil {
				return n, err
			}
		}
		k.at = e.GetCursor()
	}
	k.at = end
	return k.passed(ctx, w, len(events) == eventPage)
}

// passed ends a page: all of it is delivered, or was not wanted.
func (k *worker) passed(ctx context.Context, w *state.Webhook, full bool) (next, error) {
	if k.at != w.Body.GetCursor() && (full || time.Since(k.stored) >= passedFor) {
		w.Body.Cursor = k.at
		if err := k.store(ctx, w); err != nil {
			return next{}, err
		}
	}
	if full {
		return next{now: true}, nil
	}
	k.setBusy(false)
	n := next{events: true}
	if k.at != w.Body.GetCursor() {
		n.after = passedFor
	}
	return n, nil
}

func (k *worker) event(ctx context.Context, w *state.Webhook, e *brokerv1.Event) (ok bool, _ next, _ error) {
	m, err := eventMessage(e)
	if err != nil {
		return false, next{}, err
	}
	return k.deliver(ctx, w, m, e.GetCursor())
}

// gap tells that events are missing, and goes on with the oldest that are there.
func (k *worker) gap(ctx context.Context, w *state.Webhook) (next, error) {
	oldest, _, err := k.s.store.EventBounds(ctx)
	if err != nil {
		return next{}, err
	}
	m, err := gapMessage(w, oldest, time.Now())
	if err != nil {
		return next{}, err
	}
	ok, n, err := k.deliver(ctx, w, m, oldest)
	if ok && err == nil {
		k.at = oldest
	}
	return n, err
}

// deliver posts a message once. If the receiver takes it the cursor moves behind
// it; if not, next says how to go on.
func (k *worker) deliver(ctx context.Context, w *state.Webhook, m message, cursor string) (ok bool, n next, err error) {
	k.setBusy(true)
	a := k.s.post(ctx, w, m)
	b, now := w.Body, timestamppb.Now()
	n = next{now: true}
	switch a.outcome {
	case canceled:
		return false, next{}, ctx.Err() // nothing is known, so nothing is stored
	case delivered:
		b.State, b.StatusReason = brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE, ""
		b.Cursor, b.LastDeliveredAt = cursor, now
		b.Attempts, b.FailingSince, b.NextAttemptAt = 0, nil, nil
	default:
		n = k.failed(ctx, w, a, now)
	}
	if !previousValid(w, now.AsTime()) {
		w.Previous, b.PreviousSecretExpiresAt = nil, nil
	}
	return a.outcome == delivered, n, k.store(ctx, w)
}

// store stores the webhook, also when the broker begins to stop: what was
// delivered is not to be delivered again for that.
func (k *worker) store(ctx context.Context, w *state.Webhook) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := k.s.store.UpdateWebhook(ctx, w); err != nil {
		return err
	}
	k.version.Store(w.Version)
	k.stored = time.Now()
	return nil
}

// failed notes an attempt that failed and says when the next one is. There is none
// after the last, or if the receiver says that it is gone for good.
func (k *worker) failed(ctx context.Context, w *state.Webhook, a attempt, now *timestamppb.Timestamp) next {
	b := w.Body
	b.Attempts++
	if b.FailingSince == nil {
		b.FailingSince = now
	}
	b.State, b.StatusReason = brokerv1.WebhookState_WEBHOOK_STATE_FAILING, clip(a.problem)
	pause, again := pauseAfter(int(b.GetAttempts()), a.retryAfter)
	if again && a.status != statusGone {
		b.NextAttemptAt = timestamppb.New(now.AsTime().Add(pause))
		k.s.log.WarnContext(ctx, "webhook is not delivered", "webhook_id", k.id, "tenant", b.GetTenant(), "attempt", b.GetAttempts(),
			"problem", a.problem, "retry_in", pause.Round(time.Second))
		return next{after: pause}
	}
	reason := fmt.Sprintf("%d attempts failed since %s, the last one because %s",
		b.GetAttempts(), b.GetFailingSince().AsTime().Format(time.RFC3339), a.problem)
	if a.status == statusGone {
		reason = "its receiver said that it is gone (status 410)"
	}
	disable(b, reason, now)
	w.Events = append(w.Events, &brokerv1.Event{
		At: now, Type: brokerv1.EventType_EVENT_TYPE_WEBHOOK_DISABLED, Tenant: b.GetTenant(), WebhookId: k.id, Reason: b.GetStatusReason(),
	})
	k.s.log.WarnContext(ctx, "webhook is disabled", "webhook_id", k.id, "tenant", b.GetTenant(), "problem", reason)
	return next{now: true} // to find that it is disabled
}

// statusGone is how a receiver says that it wants no more, ever.
const statusGone = 410

// disable stops a webhook.
func disable(b *brokerv1.Webhook, reason string, now *timestamppb.Timestamp) {
	b.State, b.StatusReason = brokerv1.WebhookState_WEBHOOK_STATE_DISABLED, clip(reason)
	b.DisabledAt, b.NextAttemptAt = now, nil
}

func clip(text string) string {
	if len(text) > maxReason {
		return text[:maxReason]
	}
	return text
}
