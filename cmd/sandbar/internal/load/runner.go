package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Runner runs one plan.
type Runner struct {
	Target Target
	Plan   Plan
	// OnProgress is told of each step; it may be nil.
	OnProgress func(Progress)

	mu   sync.Mutex
	live map[string]bool
}

// firstCommand is what makes a sandbox interactive when it has finished.
var firstCommand = []string{"echo", "benchmark"}

// cleanupLimit is how long removing what is left may take at the end.
const cleanupLimit = 2 * time.Minute

// errNotTried is the error of what the limit of the plan left no time for.
var errNotTried = errors.New("not tried: the time limit of the whole run had passed")

// Run measures, and removes everything it made. If ctx ends it stops measuring;
// the report then holds what there is, and the error is ctx's cause.
func (r *Runner) Run(ctx context.Context) (*Report, error) {
	if err := r.Plan.Check(); err != nil {
		return nil, err
	}
	r.live = map[string]bool{}
	report := &Report{StartedAt: time.Now().UTC()}
	limited, cancel := context.WithTimeoutCause(ctx, r.Plan.Limit, errNotTried)
	defer cancel()
	for _, m := range r.Plan.Modes {
		if ctx.Err() != nil {
			break
		}
		switch m {
		case Sequential, Staggered, Burst:
			report.TTI = append(report.TTI, r.tti(limited, m))
		case Exec:
			report.Exec = r.inside(limited, Exec, r.Plan.Execs, r.echo)
		case Stream:
			report.Stream = r.inside(limited, Stream, r.Plan.StreamRounds, r.stream)
			report.StreamBytes = r.Plan.StreamBytes / block * block
		}
	}
	report.TookMS = milliseconds(time.Since(report.StartedAt))
	if err := r.cleanUp(context.WithoutCancel(ctx), report); err != nil {
		return report, err
	}
	return report, context.Cause(ctx)
}

// tti measures Count sandboxes, started as the mode says.
func (r *Runner) tti(ctx context.Context, mode Mode) *Series {
	s := newSeries(mode, r.Plan.Count, r.OnProgress)
	room := make(chan struct{}, r.Plan.Concurrency)
	if mode == Sequential {
		room = make(chan struct{}, 1)
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var all sync.WaitGroup
	for i := range r.Plan.Count {
		if mode == Staggered {
			select {
			case <-next.C:
				next.Reset(r.Plan.Stagger)
			case <-ctx.Done():
			}
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			s.miss(r.Plan.Count-i, context.Cause(ctx))
			break
		}
		all.Go(func() {
			defer func() { <-room }()
			r.one(ctx, s)
		})
	}
	all.Wait()
	s.end()
	return s
}

// one measures one sandbox. Removing it is not part of the time.
func (r *Runner) one(ctx context.Context, s *Series) {
	mctx, cancel := context.WithTimeout(ctx, r.Plan.Timeout)
	defer cancel()
	began := time.Now()
	id, err := r.Target.Create(mctx)
	if err == nil {
		r.own(id)
		err = r.Target.Exec(mctx, id, firstCommand, nil)
	}
	s.add(began, time.Since(began), err)
	if id != "" {
		r.remove(context.WithoutCancel(ctx), id)
	}
}

// inside measures something in one sandbox.
func (r *Runner) inside(ctx context.Context, mode Mode, rounds int, measure func(context.Context, string) error) *Series {
	s := newSeries(mode, rounds, r.OnProgress)
	defer s.end()
	cctx, cancel := context.WithTimeout(ctx, r.Plan.Timeout)
	defer cancel()
	id, err := r.Target.Create(cctx)
	if err != nil {
		s.miss(rounds, fmt.Errorf("create the sandbox to measure in: %w", err))
		return s
	}
	r.own(id)
	defer r.remove(context.WithoutCancel(ctx), id)
	for i := range rounds {
		if ctx.Err() != nil {
			s.miss(rounds-i, context.Cause(ctx))
			break
		}
		mctx, cancel := context.WithTimeout(ctx, r.Plan.Timeout)
		began := time.Now()
		err := measure(mctx, id)
		s.add(began, time.Since(began), err)
		cancel()
	}
	return s
}

func (r *Runner) echo(ctx context.Context, id string) error {
	return r.Target.Exec(ctx, id, firstCommand, nil)
}

// block is how much one write of the streamed command has.
const block = 32 << 10

// stream transfers zeroes and counts them.
func (r *Runner) stream(ctx context.Context, id string) error {
	var got counter
	blocks := r.Plan.StreamBytes / block
	err := r.Target.Exec(ctx, id, []string{"dd", "if=/dev/zero", "bs=" + strconv.Itoa(block), "count=" + strconv.FormatInt(blocks, 10)}, &got)
	if err == nil && int64(got) != blocks*block {
		err = fmt.Errorf("%d bytes arrived: want %d", int64(got), blocks*block)
	}
	return err
}

// counter counts what is written to it, by one goroutine.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func (r *Runner) own(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[id] = true
}

// remove removes a sandbox; one that cannot be removed now is left to cleanUp.
func (r *Runner) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, r.Plan.Timeout)
	defer cancel()
	if r.Target.Remove(ctx, id) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, id)
}

// cleanUp removes what is left and says in the report how much of that was a
// surprise.
func (r *Runner) cleanUp(ctx context.Context, report *Report) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	listed, err := r.Target.List(ctx)
	if err != nil {
		return fmt.Errorf("list what is left: %w", err)
	}
	for _, id := range listed {
		if !r.live[id] {
			report.Unclaimed++
		}
		r.own(id)
	}
	var all sync.WaitGroup
	room := make(chan struct{}, min(r.Plan.Concurrency, 16))
	for id := range r.live {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			_ = r.Target.Remove(ctx, id) // the listing tells whether it worked
		})
	}
	all.Wait()
	if report.Leaked, err = r.Target.List(ctx); err != nil {
		return fmt.Errorf("list what is left: %w", err)
	}
	return nil
}
