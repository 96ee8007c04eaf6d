package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/mutant"
)

// MutateOptions say which mutants to run, and how.
type MutateOptions struct {
	// Cases are patterns for the cases whose mutants run; empty: all.
	Cases []string
	// Matrix runs each mutant against all cases of its area, and not only against
	// the one that must find it.
	Matrix bool
	// Program and Args make a process that calls ServeMutant with the id that is
	// appended, for bugs that are in the process around a driver.
	Program string
	Args    []string
	// Providers are binaries of real providers by name, which some mutants wrap.
	// A mutant whose provider is missing is not run.
	Providers map[string]string
	// Parallel is how many mutants run at once; 0: 4.
	Parallel int
	Seed     uint64
	// Observe is called with each mutant as it ends, one at a time.
	Observe func(MutantResult)
}

// MutantResult is what became of one mutant.
type MutantResult struct {
	ID string `json:"id"`
	// Case must find the bug.
	Case string `json:"case"`
	Bug  string `json:"bug"`
	// Killed is true if the case failed, as it must.
	Killed bool `json:"killed"`
	// NotRun says why it was not tried; empty if it was.
	NotRun string `json:"not_run"`
	// Finding is the first thing that the case found wrong, or how it ended.
	Finding string `json:"finding"`
	// Others are outcomes of the other cases of the area, with Matrix.
	Others map[string]string `json:"others,omitempty"`
	// Strays are cases that failed though the bug is not theirs, with Matrix, and
	// StrayFindings what they found.
	Strays        []string          `json:"strays,omitempty"`
	StrayFindings map[string]string `json:"stray_findings,omitempty"`
	// Spared are cases of which the mutant says that the bug is theirs too, and
	// that passed, with Matrix: either they are not sure to see it, or it says so
	// in vain.
	Spared []string `json:"spared,omitempty"`
}

// Mutation is the result of testing the suite.
type Mutation struct {
	Mutants []MutantResult `json:"mutants"`
	// Unproven are selected cases without any mutant.
	Unproven []string `json:"unproven"`
}

// OK reports whether every case found its bugs, and nothing else failed.
func (m Mutation) OK() bool {
	return len(m.Unproven) == 0 && !slices.ContainsFunc(m.Mutants, func(r MutantResult) bool {
		return len(r.Strays) > 0 || r.NotRun == "" && !r.Killed
	})
}

// Complete reports whether every mutant was run.
func (m Mutation) Complete() bool {
	return !slices.ContainsFunc(m.Mutants, func(r MutantResult) bool { return r.NotRun != "" })
}

// ServeMutant is the main function of a plugin process that has a bug; an empty
// id is the reference provider without one. It does not return unless the mutant
// does not exist.
func ServeMutant(id string) error { return mutant.Serve(id) }

// Mutate tests the suite: each mutant is the reference provider with one bug, and
// the case it is for must fail. The error is about options, or the context.
func Mutate(ctx context.Context, opts MutateOptions) (Mutation, error) {
	all := catalogue()
	selected := slices.DeleteFunc(slices.Clone(all), func(c engine.Case) bool {
		return len(opts.Cases) > 0 && !slices.ContainsFunc(opts.Cases, func(p string) bool { return matches(p, c.ID) })
	})
	if len(selected) == 0 {
		return Mutation{}, fmt.Errorf("no case matches %s: `sandbar conformance list` shows them", strings.Join(opts.Cases, ", "))
	}
	run := slices.DeleteFunc(mutant.All(), func(m mutant.Mutant) bool { return !exists(selected, m.Kills) })
	out := Mutation{Mutants: make([]MutantResult, len(run)), Unproven: []string{}}
	for _, c := range selected {
		if !slices.ContainsFunc(run, func(m mutant.Mutant) bool { return m.Kills == c.ID }) {
			out.Unproven = append(out.Unproven, c.ID)
		}
	}
	if opts.Parallel <= 0 {
		opts.Parallel = defaultParallel
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	places := make(chan struct{}, opts.Parallel)
	for i, m := range run {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			result := tryMutant(ctx, m, all, opts)
			mu.Lock()
			defer mu.Unlock()
			out.Mutants[i] = result
			if opts.Observe != nil {
				opts.Observe(result)
			}
		})
	}
	running.Wait()
	return out, ctx.Err()
}

// tryMutant runs one mutant.
func tryMutant(ctx context.Context, m mutant.Mutant, all []engine.Case, opts MutateOptions) MutantResult {
	out := MutantResult{ID: m.ID, Case: m.Kills, Bug: m.Bug}
	victim := all[slices.IndexFunc(all, func(c engine.Case) bool { return c.ID == m.Kills })]
	target, err := m.Target(victim, mutant.Host{Path: opts.Program, Args: opts.Args, Providers: opts.Providers})
	if err != nil {
		out.NotRun = err.Error()
		return out
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
		defer cancel()
		if err := target.Close(closing); err != nil && out.NotRun == "" {
			out.Finding += "; " + err.Error()
		}
	}()
	results, err := engine.Run(ctx, engine.Options{
		Target: target, Cases: near(m, victim, all, opts.Matrix), Run: newRunID(), Seed: opts.Seed, Inputs: mutantInputs(m),
	})
	if err != nil {
		out.NotRun = err.Error()
		return out
	}
	out.judge(m, results)
	return out
}

// near are the cases that a mutant runs against. Real sandboxes take their time:
// against them only the one case is run.
func near(m mutant.Mutant, victim engine.Case, all []engine.Case, matrix bool) []engine.Case {
	if !matrix || m.Provider != "" {
		return []engine.Case{victim}
	}
	area := m.Kills[:strings.LastIndexByte(m.Kills, '/')+1]
	return slices.DeleteFunc(slices.Clone(all), func(c engine.Case) bool { return !strings.HasPrefix(c.ID, area) })
}

// mutantInputs make mutants that hang die sooner, and the others move less.
func mutantInputs(m mutant.Mutant) map[string]string {
	inputs := map[string]string{"bulk_mib": "3", "memory_mib": "64", "disk_mib": "4", "patience": (5 * time.Second).String()}
	maps.Copy(inputs, m.Inputs)
	return inputs
}

// judge sorts results into what had to fail and what had not to.
func (r *MutantResult) judge(m mutant.Mutant, results []engine.Result) {
	for _, result := range results {
		if result.Case.ID == m.Kills {
			r.Killed = result.Outcome == engine.Fail
			r.Finding = finding(result)
			if result.Outcome == engine.Skip || result.Outcome == engine.Error {
				r.NotRun = strings.TrimSpace(fmt.Sprintf("the case ended with %s %s %s", result.Outcome, result.SkipReason, result.Detail))
				r.Finding = ""
			}
			continue
		}
		if r.Others == nil {
			r.Others = map[string]string{}
		}
		r.Others[result.Case.ID] = string(result.Outcome)
		bad, named := result.Outcome == engine.Fail || result.Outcome == engine.Error, slices.Contains(m.Also, result.Case.ID)
		switch {
		case bad && !named:
			r.Strays = append(r.Strays, result.Case.ID)
			if r.StrayFindings == nil {
				r.StrayFindings = map[string]string{}
			}
			r.StrayFindings[result.Case.ID] = finding(result)
		case named && result.Outcome == engine.Pass:
			r.Spared = append(r.Spared, result.Case.ID)
		}
	}
}

// finding is the first thing that a case found wrong, or how it ended.
func finding(result engine.Result) string {
	if len(result.Problems) == 0 {
		return string(result.Outcome)
	}
	first, _, _ := strings.Cut(result.Problems[0], "\n")
	return first
}
