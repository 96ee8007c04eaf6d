package pool

import (
	"context"
	"sync"
	"time"
)

// Options of New. Make and End are required.
type Options[T comparable] struct {
	// Max is the most things that are ready at once, at least 1.
	Max int
	// Make makes one for the pool, which it is given so that it can tell it when
	// the thing ends. It is called by one goroutine, one call at a time.
	Make func(context.Context, *Pool[T]) (T, error)
	// End ends a thing that nobody took, and returns when it is gone.
	End func(T)
	// Failed is told of every failure to make one; nil: nobody is.
	Failed func(error)
}

const (
	// burst is the time in which things must be there for all who ask: about as
	// long as it takes to make some again.
	burst = 2 * time.Second
	// decay is how long demand must be lower than what is kept before one less is
	// kept.
	decay = time.Minute
	// quiet is how long nothing else was made before a thing is made that is not
	// the last one, so that what was just handed out has the machine for itself.
	quiet = 100 * time.Millisecond
	// firstRetry and lastRetry bound the pause after a failure.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Pool is a set of things that are ready. Close ends it.
type Pool[T comparable] struct {
	opts   Options[T]
	cancel context.CancelFunc
	kick   chan struct{} // one token: something has changed
	ended  chan struct{}

	mu     sync.Mutex
	ready  []T
	making *made[T] // under way; nil: none
	closed bool
	// busy counts what others are making, and idle is when that was last over.
	busy int
	idle time.Time
	// asked are the times of the last calls of Take, as many as Max.
	asked []time.Time
	// want is how many are kept, and met when demand last reached it.
	want int
	met  time.Time
}

// made is a thing in the making.
type made[T comparable] struct {
	claimed bool
	done    chan struct{}
	thing   T
	err     error
}

// New returns a pool that begins to fill.
func New[T comparable](opts Options[T]) *Pool[T] {
	if opts.Failed == nil {
		opts.Failed = func(error) {}
	}
	now := time.Now()
	p := &Pool[T]{opts: opts, kick: make(chan struct{}, 1), ended: make(chan struct{}), want: 1, met: now, idle: now.Add(-quiet)}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer cancel()
		p.keep(ctx)
	}()
	return p
}

// Close ends what is ready and waits until all of it is gone. Take returns
// nothing from now on.
func (p *Pool[T]) Close() {
	p.mu.Lock()
	p.closed = true
	rest := p.ready
	p.ready = nil
	p.mu.Unlock()
	p.cancel()
	<-p.ended
	for _, t := range rest {
		p.opts.End(t)
	}
}

// Take hands out a thing, which is the caller's from now on. If none is ready it
// waits for the one in the making, unless somebody else does already: that one
// is there sooner than one that is begun now. ok is false if there is neither.
func (p *Pool[T]) Take(ctx context.Context) (thing T, ok bool) {
	p.mu.Lock()
	p.demand(time.Now())
	defer p.changed()
	if n := len(p.ready); n > 0 {
		thing, p.ready = p.ready[n-1], p.ready[:n-1]
		p.mu.Unlock()
		return thing, true
	}
	m := p.making
	if m == nil || m.claimed {
		p.mu.Unlock()
		return thing, false
	}
	m.claimed = true
	p.mu.Unlock()
	select {
	case <-m.done:
		return m.thing, m.err == nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-m.done: // it was made for this caller and is in nobody else's hands
		return m.thing, m.err == nil
	default:
		m.claimed = false
		return thing, false
	}
}

// Remove takes out a thing that ended by itself. It is a no-op if the thing was
// taken.
func (p *Pool[T]) Remove(thing T) {
	p.mu.Lock()
	for i, t := range p.ready {
		if t == thing {
			p.ready = append(p.ready[:i:i], p.ready[i+1:]...)
			break
		}
	}
	p.mu.Unlock()
	p.changed()
}

// Busy says that the caller makes something else, and nothing is begun in the
// pool until it calls done.
func (p *Pool[T]) Busy() (done func()) {
	p.mu.Lock()
	p.busy++
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.busy--
		p.idle = time.Now()
		p.mu.Unlock()
		p.changed()
	}
}

// Ready is how many there are, and Want how many are kept.
func (p *Pool[T]) Ready() (ready, want int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready), p.want
}

// demand notes a call of Take; p.mu is held.
func (p *Pool[T]) demand(now time.Time) {
	p.asked = append(p.asked, now)
	for len(p.asked) > p.opts.Max || now.Sub(p.asked[0]) > burst {
		p.asked = p.asked[1:]
	}
	if n := len(p.asked); n >= p.want {
		p.want, p.met = n, now
	}
}

func (p *Pool[T]) changed() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// keep is the pool's goroutine.
func (p *Pool[T]) keep(ctx context.Context) {
	defer close(p.ended)
	retry := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
		}
		surplus, m, again := p.next(time.Now())
		for _, t := range surplus {
			p.opts.End(t)
		}
		if m != nil {
			again = 0
			if err := p.make(ctx, m); err == nil {
				retry = firstRetry
			} else if !pause(ctx, retry) {
				return
			} else {
				retry = min(2*retry, lastRetry)
			}
		}
		timer.Reset(again)
	}
}

// pause waits for a time; false: the pool ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// next decides what to do now: end some, make one, or look again after a time.
func (p *Pool[T]) next(now time.Time) (surplus []T, m *made[T], again time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want > 1 && now.Sub(p.met) >= decay {
		p.want--
		p.met = now
	}
	if n := len(p.ready); n > p.want {
		surplus = append(surplus, p.ready[p.want:]...)
		p.ready = p.ready[:p.want:p.want]
	}
	again = decay
	if p.want > 1 {
		again = p.met.Add(decay).Sub(now)
	}
	switch {
	case len(p.ready) >= p.want, p.busy > 0:
		return surplus, nil, again
	case len(p.ready) > 0 && now.Sub(p.idle) < quiet:
		return surplus, nil, min(again, p.idle.Add(quiet).Sub(now))
	}
	p.making = &made[T]{done: make(chan struct{})}
	return surplus, p.making, again
}

// make makes one, for whoever waits for it or for the pool.
func (p *Pool[T]) make(ctx context.Context, m *made[T]) error {
	m.thing, m.err = p.opts.Make(ctx, p)
	p.mu.Lock()
	p.making = nil
	keep := m.err == nil && !m.claimed && !p.closed
	drop := m.err == nil && !m.claimed && p.closed
	if keep {
		p.ready = append(p.ready, m.thing)
	}
	close(m.done)
	p.mu.Unlock()
	if drop {
		p.opts.End(m.thing)
	}
	if m.err != nil && ctx.Err() == nil {
		p.opts.Failed(m.err)
	}
	return m.err
}
