package webhook

import (
	"context"
	"time"
)

const (
	// holdFor is how long a broker that died keeps others from delivering, and how
	// far the clocks of brokers may be apart; holdEvery is how often a broker says
	// that it is there, so that two such writes may fail.
	holdFor   = 30 * time.Second
	holdEvery = 10 * time.Second
	// eventPoll is how often events of other brokers are looked for.
	eventPoll = time.Second
	// storeTimeout bounds what is written at the end, when nobody waits for it.
	storeTimeout = 5 * time.Second
)

// dispatcher knows the workers. It is of one goroutine.
type dispatcher struct {
	s       *Service
	workers map[string]*worker
	newest  string
}

// dispatch holds webhooks and runs a worker for each, until ctx ends.
func (s *Service) dispatch(ctx context.Context) {
	d := &dispatcher{s: s, workers: make(map[string]*worker)}
	hold := time.NewTimer(0)
	defer hold.Stop()
	poll := time.NewTicker(eventPoll)
	defer poll.Stop()
	changed := s.opts.Changed()
	for {
		select {
		case <-ctx.Done():
			d.close(ctx)
			return
		case <-hold.C:
			d.hold(ctx)
			hold.Reset(holdEvery)
		case <-s.poked:
			d.hold(ctx)
		case <-changed:
			changed = s.opts.Changed() // before they look, so that nothing comes in between
			s.more.Send()
		case <-poll.C:
			d.poll(ctx)
		}
	}
}

// hold says that this broker is there, takes what nobody delivers to, and starts
// and ends workers accordingly.
func (d *dispatcher) hold(ctx context.Context) {
	now := time.Now()
	held, err := d.s.store.HoldWebhooks(ctx, d.s.opts.Holder, now, now.Add(holdFor))
	if err != nil {
		// Workers go on: what they do without holding the webhook is not stored.
		d.s.logged(ctx, "webhooks are not held", err)
		return
	}
	for id, w := range d.workers {
		if _, ok := held[id]; !ok {
			w.cancel()
		}
		if w.ended() {
			delete(d.workers, id)
		}
	}
	for id, version := range held {
		if w := d.workers[id]; w == nil {
			d.workers[id] = d.s.work(ctx, id)
		} else {
			w.tell(version)
		}
	}
}

// poll wakes the workers if there are events that another broker stored.
func (d *dispatcher) poll(ctx context.Context) {
	if len(d.workers) == 0 {
		return
	}
	_, newest, err := d.s.store.EventBounds(ctx)
	if err != nil {
		d.s.logged(ctx, "events for webhooks are not looked for", err)
		return
	}
	if newest != d.newest {
		d.newest = newest
		d.s.more.Send()
	}
}

// close ends the workers, and then lets others have their webhooks.
func (d *dispatcher) close(ctx context.Context) {
	for _, w := range d.workers {
		w.cancel()
	}
	for _, w := range d.workers {
		<-w.done
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	d.s.logged(ctx, "webhooks are not released", d.s.store.ReleaseWebhooks(ctx, d.s.opts.Holder))
}

func (s *Service) logged(ctx context.Context, message string, err error, args ...any) {
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, message, append(args, "error", err)...) //nolint:sloglint // callers pass constants
	}
}
