package conformance

import (
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/mutant"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/spec"
)

// CaseInfo is what there is to know about a case without running it.
type CaseInfo struct {
	ID string `json:"id"`
	// Title is one sentence: what a provider does that passes.
	Title   string `json:"title"`
	Profile string `json:"profile"`
	// Level is MUST if any of its requirements is.
	Level        string   `json:"level"`
	Requirements []string `json:"requirements"`
	// Needs are capabilities that must be declared for it to apply; Denies is one
	// that must not be.
	Needs  []string `json:"needs"`
	Denies string   `json:"denies"`
	// Targets it can be run on.
	Targets []string `json:"targets"`
	// Budget is how long it may take; CostSeconds how many sandbox-seconds a
	// vendor may bill.
	Budget      time.Duration `json:"-"`
	BudgetMS    int64         `json:"budget_ms"`
	CostSeconds int           `json:"cost_seconds"`
	// Since is the minor of the protocol that brought it.
	Since uint32 `json:"since"`
	// Provisional cases run and do not count yet.
	Provisional bool `json:"provisional"`
}

// MutantInfo is a provider with a bug that a case finds.
type MutantInfo struct {
	ID  string `json:"id"`
	Bug string `json:"bug"`
}

// Explanation is everything about one case.
type Explanation struct {
	CaseInfo
	// Texts are the requirements as docs/spec has them.
	Texts []spec.Requirement `json:"texts"`
	// Mutants are the bugs that the case was seen to find.
	Mutants []MutantInfo `json:"mutants"`
}

// Cases returns every case of the suite, sorted by id.
func Cases() []CaseInfo {
	var out []CaseInfo
	for _, c := range catalogue() {
		out = append(out, info(c))
	}
	return out
}

func info(c engine.Case) CaseInfo {
	budget := c.Budget
	if budget == 0 {
		budget = engine.DefaultBudget
	}
	out := CaseInfo{
		ID: c.ID, Title: c.Title, Profile: string(c.Profile), Level: string(c.Level()), Requirements: list(c.Requirements),
		Needs: list(c.Needs), Denies: c.Denies, Budget: budget, BudgetMS: budget.Milliseconds(), CostSeconds: c.Cost,
		Since: c.Since, Provisional: c.Provisional, Targets: []string{},
	}
	for _, k := range targetKinds(c) {
		out.Targets = append(out.Targets, string(k))
	}
	return out
}

// Explain returns everything about a case.
func Explain(id string) (Explanation, error) {
	all := catalogue()
	i := slices.IndexFunc(all, func(c engine.Case) bool { return c.ID == id })
	if i < 0 {
		return Explanation{}, noCase(id)
	}
	out := Explanation{CaseInfo: info(all[i]), Texts: []spec.Requirement{}, Mutants: []MutantInfo{}}
	for _, req := range all[i].Requirements {
		if r, ok := spec.Lookup(req); ok {
			out.Texts = append(out.Texts, r)
		}
	}
	for _, m := range mutant.All() {
		if m.Kills == id || slices.Contains(m.Also, id) {
			out.Mutants = append(out.Mutants, MutantInfo{ID: m.ID, Bug: m.Bug})
		}
	}
	return out, nil
}

// targetKinds are the targets a case can be run on.
func targetKinds(c engine.Case) []subject.Kind {
	if len(c.Kinds) > 0 {
		return c.Kinds
	}
	return []subject.Kind{subject.Binary, subject.InProcess, subject.Broker}
}
