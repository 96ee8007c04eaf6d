package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
)

// Options of a run. Target, Cases and Run are required.
type Options struct {
	Target subject.Target
	Cases  []Case
	// Run is the run's id; owners of everything it makes start with it.
	Run string
	// Parallel is how many cases run at once; 0: 4.
	Parallel int
	// Slow is how many times longer than on a usual machine everything may take; 0: 1.
	// What the contract says about time holds as it is.
	Slow int
	// Seed orders the cases and seeds their random numbers.
	Seed uint64
	// Select says why a case is not to run, or "".
	Select func(Case) (SkipReason, string)
	// Known are the known failures.
	Known []Known
	// Inputs are what the operator gives cases, by name.
	Inputs map[string]string
	// Trace keeps every call.
	Trace bool
	// Observe is called with each result as it comes, one at a time.
	Observe func(Result)
	// Now is the time that decides what has expired; nil: time.Now.
	Now func() time.Time
}

const (
	defaultParallel = 4
	// grace is how long a case may take to notice that its context ended.
	grace = 5 * time.Second
	// cleanBudget is how long removing what a case made may take.
	cleanBudget = 30 * time.Second
	// openBudget covers the start of a plugin.
	openBudget = 30 * time.Second
)

// Run runs all cases and returns a result for each, in the order of
// Options.Cases. The error is the suite's own: the target could not be opened, or
// ctx ended.
func Run(ctx context.Context, opts Options) ([]Result, error) {
	if err := Check(opts.Cases); err != nil {
		return nil, err
	}
	if opts.Parallel <= 0 {
		opts.Parallel = defaultParallel
	}
	opts.Slow = max(opts.Slow, 1)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	shared, err := open(ctx, opts)
	if err != nil {
		return nil, err
	}
	r := &runner{
		opts: opts, shared: shared, results: map[string]Result{},
		env: &environment{slow: opts.Slow, target: opts.Target, run: opts.Run, inputs: opts.Inputs, ledger: subject.NewLedger()},
	}
	r.phases(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
	defer cancel()
	if err := shared.Close(closing); err != nil {
		return nil, fmt.Errorf("close the plugin: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the run was cut: %w", err)
	}
	out := make([]Result, len(opts.Cases))
	for i, c := range opts.Cases {
		out[i] = r.results[c.ID]
	}
	return out, nil
}

func open(ctx context.Context, opts Options) (*subject.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, openBudget)
	defer cancel()
	inst, err := opts.Target.Open(ctx, subject.OpenOptions{Owner: opts.Run})
	if err != nil {
		return nil, fmt.Errorf("open the target: %w", err)
	}
	return inst, nil
}

type runner struct {
	opts   Options
	env    *environment
	shared *subject.Instance

	mu      sync.Mutex
	results map[string]Result
}

// phases runs the cases, those that may run together in an order that the seed
// decides.
func (r *runner) phases(ctx context.Context) {
	cases := slices.Clone(r.opts.Cases)
	slices.SortFunc(cases, func(a, b Case) int { return cmp.Compare(a.ID, b.ID) })
	rng := rand.New(rand.NewPCG(r.opts.Seed, 0)) //nolint:gosec // must be repeatable from the seed
	rng.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })

	places := make(chan struct{}, r.opts.Parallel)
	var running sync.WaitGroup
	for _, c := range cases {
		if c.Phase > Apart {
			continue
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			r.one(ctx, c)
		})
	}
	running.Wait()
	for _, phase := range []Phase{Alone, Last} {
		for _, c := range cases {
			if c.Phase == phase {
				r.one(ctx, c)
			}
		}
	}
}

// one runs a case and keeps its result.
func (r *runner) one(ctx context.Context, c Case) {
	result := r.decide(ctx, c)
	for _, k := range r.opts.Known {
		if k.Case == c.ID {
			result.Known = &k
			result.Outcome = k.apply(result.Outcome, r.opts.Now())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[c.ID] = result
	if r.opts.Observe != nil {
		r.opts.Observe(result)
	}
}

func (r *runner) decide(ctx context.Context, c Case) Result {
	if reason, detail := r.inapplicable(c); reason != "" {
		return Result{Case: c, Outcome: Skip, SkipReason: reason, Detail: detail, Started: time.Now()}
	}
	if err := ctx.Err(); err != nil {
		return Result{Case: c, Outcome: Error, Problems: []string{"the run was cut before this case"}, Started: time.Now()}
	}
	inst := r.shared
	if c.Phase == Apart {
		own, err := open(ctx, r.opts)
		if err != nil {
			return Result{Case: c, Outcome: Error, Problems: []string{err.Error()}, Started: time.Now()}
		}
		inst = own
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
			defer cancel()
			_ = own.Close(closing) // the case has its verdict; a plugin that will not end is the last case's matter
		}()
	}
	return r.run(ctx, c, inst)
}

// inapplicable says why a case does not run, or "".
func (r *runner) inapplicable(c Case) (SkipReason, string) {
	if r.opts.Select != nil {
		if reason, detail := r.opts.Select(c); reason != "" {
			return reason, detail
		}
	}
	if len(c.Kinds) > 0 && !slices.Contains(c.Kinds, r.opts.Target.Kind()) {
		return OtherTarget, string(r.opts.Target.Kind())
	}
	if minor := r.shared.Describe.GetProtocolMinor(); c.Since > minor {
		return NewerThanSubject, fmt.Sprintf("the plugin knows minor %d, the case came with %d", minor, c.Since)
	}
	for _, id := range c.Needs {
		if !r.shared.Has(id) {
			return NotDeclared, id
		}
	}
	if c.Denies != "" && r.shared.Has(c.Denies) {
		return Declared, c.Denies
	}
	return "", ""
}

// run runs one case to its end, or to the end of its budget.
func (r *runner) run(ctx context.Context, c Case, inst *subject.Instance) Result {
	budget := r.env.slowly(c.budget())
	budgeted, cancel := context.WithTimeoutCause(ctx, budget, errBudget)
	defer cancel()
	t := newT(budgeted, c, r.env, inst, r.opts.Seed)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.recoverPanic()
		c.Run(t)
	}()
	abandoned := false
	select {
	case <-done:
	case <-budgeted.Done():
		if errors.Is(context.Cause(budgeted), errBudget) {
			t.Errorf("it was not done after its budget of %s", budget)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			abandoned = true
		}
	}
	elapsed := time.Since(t.start)
	if abandoned {
		t.Errorf("it still hung %s after its context had ended", grace)
	} else if ctx.Err() != nil && !t.Failed() {
		return Result{Case: c, Outcome: Error, Problems: []string{"the run was cut during this case"}, Started: t.start, Elapsed: elapsed}
	}
	clean, cancelClean := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
	defer cancelClean()
	t.cleanUp(clean)
	result := t.result(r.opts.Trace)
	result.Elapsed = elapsed
	return result
}

var errBudget = errors.New("the case's budget is used up")

// recoverPanic turns a panic of a case into an error of the suite.
func (t *T) recoverPanic() {
	if p := recover(); p != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.broken = append(t.broken, fmt.Sprintf("the case panicked: %v\n%s", p, debug.Stack()))
	}
}
