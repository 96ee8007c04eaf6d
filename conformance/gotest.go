package conformance

import (
	"context"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

// Test runs the suite as part of go test: each case is a subtest of its id. A
// case that failed, could not be judged, or passed against an entry of the known
// failures fails its subtest; one that was skipped skips it, with the reason; a
// failure that is known, or only warns, is logged. The report is returned, for a
// test that wants to write or to compare it.
//
// To run some cases only, use Options.Cases and not go test's -run, which picks
// subtests to show and cannot pick cases to run.
func Test(t *testing.T, target Target, opts Options) *report.Report {
	t.Helper()
	ended := newInbox()
	before := opts.Observe
	opts.Observe = func(p Progress) {
		if before != nil {
			before(p)
		}
		ended.put(p)
	}
	var r *report.Report
	var err error
	var running sync.WaitGroup
	running.Go(func() {
		defer ended.close()
		r, err = Run(t.Context(), target, opts)
	})
	for _, c := range catalogue() {
		t.Run(c.ID, func(t *testing.T) {
			p, ok := ended.take(t.Context(), c.ID)
			if !ok {
				t.Skip("the run ended before this case")
			}
			tell(t, p)
		})
	}
	running.Wait()
	if err != nil {
		t.Fatalf("conformance: %v", err)
	}
	if _, executed := r.Totals(); executed == 0 {
		t.Error("conformance: no MUST case was executed, so that nothing was shown")
	}
	t.Logf("conformance: %s", r.Summary())
	return r
}

// tell makes a subtest of what became of a case.
func tell(t *testing.T, p Progress) {
	t.Helper()
	switch p.Case.Outcome {
	case report.Pass:
	case report.Skip:
		t.Skip(p.Case.Skip.Text())
	case report.KnownFail:
		t.Logf("known failure: %s", p.Case.Text(p.Rerun))
	case report.UnexpectedPass:
		t.Error("it passed, and stands among the known failures: take the entry out")
	case report.Fail:
		if p.Case.Level != report.Must || p.Case.Provisional {
			t.Logf("warning: %s", p.Case.Text(p.Rerun))
			return
		}
		t.Error(p.Case.Text(p.Rerun))
	default:
		t.Error(p.Case.Text(p.Rerun))
	}
}

// inbox hands each case's end to its subtest, whichever comes first.
type inbox struct {
	mu      sync.Mutex
	cases   map[string]Progress
	changed chan struct{} // closed and replaced when a case arrives
	closed  bool
}

func newInbox() *inbox { return &inbox{cases: map[string]Progress{}, changed: make(chan struct{})} }

func (i *inbox) put(p Progress) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cases[p.Case.ID] = p
	close(i.changed)
	i.changed = make(chan struct{})
}

// close says that no more cases come.
func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	close(i.changed)
	i.changed = make(chan struct{})
}

// take waits for a case; it returns false if the case will not come.
func (i *inbox) take(ctx context.Context, id string) (Progress, bool) {
	for {
		i.mu.Lock()
		p, ok := i.cases[id]
		closed, changed := i.closed, i.changed
		i.mu.Unlock()
		if ok || closed {
			return p, ok
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Progress{}, false
		}
	}
}
