package conformance

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/cases"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

const (
	// defaultParallel is how many cases run at once where nobody says.
	defaultParallel = 4
	// lookBudget bounds asking a target what it is, its start included.
	lookBudget = 30 * time.Second
	// closeBudget bounds taking a target down after a run.
	closeBudget = 30 * time.Second
)

// catalogue is every case, sorted by id.
func catalogue() []engine.Case { return cases.All() }

// Run tests a target and returns the report, judged and sealed. The error is
// the suite's own, or the caller's: options that make no sense, a target that
// cannot be opened, a context that ended. Then there is no report, because there
// is nothing that it could say.
func Run(ctx context.Context, target Target, opts Options) (_ *report.Report, err error) {
	all := catalogue()
	if err := opts.check(all); err != nil {
		return nil, err
	}
	if opts.Seed == 0 {
		opts.Seed = rand.Uint64() //nolint:gosec // it orders cases
	}
	if opts.Parallel <= 0 {
		opts.Parallel = defaultParallel
	}
	subj, err := target.target()
	if err != nil {
		return nil, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
		defer cancel()
		err = errors.Join(err, subj.Close(closing))
	}()
	about, err := look(ctx, subj)
	if err != nil {
		return nil, err
	}
	r := newReport(opts, about, subj.Kind())
	results, described, err := runCases(ctx, target, subj, all, r.Run, opts)
	if err != nil {
		return nil, err
	}
	r.Run.DurationMS = report.Millis(time.Since(r.Run.Started))
	fill(r, results, described)
	return r, r.Seal()
}

// look asks a target what it is.
func look(ctx context.Context, subj subject.Target) (subject.About, error) {
	ctx, cancel := context.WithTimeout(ctx, lookBudget)
	defer cancel()
	about, err := subj.About(ctx)
	if err != nil {
		return about, fmt.Errorf("look at the target: %w", err)
	}
	return about, nil
}

// runCases runs the engine, and asks the target what it declares.
func runCases(ctx context.Context, target Target, subj subject.Target, all []engine.Case, run report.Run, opts Options) ([]engine.Result, []string, error) {
	done := 0
	declared := &describer{Target: subj}
	results, err := engine.Run(ctx, engine.Options{
		Target: declared, Cases: all, Run: run.ID, Parallel: opts.Parallel, Slow: opts.Slow, Seed: opts.Seed, Select: opts.selects,
		Known: opts.known(), Inputs: opts.Inputs, Trace: opts.Trace,
		Observe: func(result engine.Result) {
			done++
			if opts.Observe != nil {
				c := caseOf(result)
				opts.Observe(Progress{Case: c, Done: done, Total: len(all), Rerun: target.rerun(c.ID, run)})
			}
		},
	})
	return results, declared.supported(), err
}

// newRunID returns an id that no other run had, short enough to be the first
// part of an owner at any vendor.
func newRunID() string {
	const length = 12
	return "conf-" + strings.ToLower(cryptorand.Text()[:length])
}
