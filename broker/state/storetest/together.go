package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// together runs fn n times at once.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-begin; errs[i] = fn(i) })
	}
	close(begin)
	wg.Wait()
	return errs
}

// crossing: inserts that want the same two names, in either order, do not wait for
// each other for ever; one gets both.
func crossing(t *testing.T, s state.Store) {
	const rounds, callers = 5, 4
	for round := range rounds {
		errs := together(callers, func(i int) error {
			rows := make([]*state.Sandbox, 2)
			for j := range rows {
				rows[j] = sandbox(round*100+i*10+j, func(sb *state.Sandbox) { sb.Body.Name = fmt.Sprintf("n-%d-%d", round, (i+j)%2) })
			}
			return s.InsertSandboxes(t.Context(), nil, rows...)
		})
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			want(t, err, state.ErrNameTaken)
		}
		if won != 1 {
			t.Fatalf("round %d: %d inserts got the names, want 1", round, won)
		}
	}
}

// sharedRequest: whoever removes the last sandbox of a request removes the
// request, also if all are removed at once.
func sharedRequest(t *testing.T, s state.Store) {
	const rounds, callers = 20, 4
	for round := range rounds {
		key := fmt.Sprintf("k-%d", round)
		req := &state.Request{Tenant: "default", Key: key, At: start}
		var rows []*state.Sandbox
		for i := range callers {
			rows = append(rows, sandbox(round*100+i, func(sb *state.Sandbox) { sb.RequestKey = key }))
			req.IDs = append(req.IDs, rows[i].ID())
		}
		check(t, s.InsertSandboxes(t.Context(), req, rows...))
		check(t, errors.Join(together(callers, func(i int) error { return s.RemoveSandbox(t.Context(), rows[i]) })...))
		_, err := s.Request(t.Context(), "default", key)
		want(t, err, state.ErrNotFound)
	}
}
