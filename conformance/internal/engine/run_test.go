package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a provider that does nothing, and counts.
type target struct {
	kind    subject.Kind
	caps    []string
	minor   uint32
	openErr error
	opened  atomic.Int32
	closed  atomic.Int32

	mu      sync.Mutex
	deleted []string
	refuse  bool
}

func (t *target) Kind() subject.Kind { return t.kind }
func (t *target) About(context.Context) (subject.About, error) {
	return subject.About{Name: "none"}, nil
}
func (t *target) Close(context.Context) error { return nil }
func (t *target) Open(context.Context, subject.OpenOptions) (*subject.Instance, error) {
	if t.openErr != nil {
		return nil, t.openErr
	}
	t.opened.Add(1)
	describe := &providerv1.DescribeResponse{ProtocolMinor: t.minor}
	for _, id := range t.caps {
		describe.Capabilities = append(describe.Capabilities, &providerv1.Capability{Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED})
	}
	return subject.NewInstance(t, describe, nil, "", func(context.Context) error { t.closed.Add(1); return nil }), nil
}

// Invoke answers every call with an empty message.
func (t *target) Invoke(_ context.Context, _ string, args, _ any, _ ...grpc.CallOption) error {
	if req, ok := args.(*providerv1.DeleteSandboxRequest); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.deleted = append(t.deleted, req.GetSandbox().GetSandboxId())
		if t.refuse {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "not now").GRPCStatus().Err()
		}
	}
	return nil
}

func (t *target) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

func makeCase(id string, run func(*engine.T), change ...func(*engine.Case)) engine.Case {
	c := engine.Case{ID: id, Title: "It does.", Profile: engine.Core, Requirements: []string{"REQ-CAP-001"}, Run: run}
	for _, f := range change {
		f(&c)
	}
	return c
}

func runCases(t *testing.T, tgt *target, change func(*engine.Options), cases ...engine.Case) map[string]engine.Result {
	t.Helper()
	opts := engine.Options{Target: tgt, Cases: cases, Run: "run"}
	if change != nil {
		change(&opts)
	}
	results, err := engine.Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]engine.Result{}
	for i, r := range results {
		if r.Case.ID != cases[i].ID {
			t.Errorf("result %d is of %s: want %s, the order of the cases", i, r.Case.ID, cases[i].ID)
		}
		out[r.Case.ID] = r
	}
	if tgt.opened.Load() != tgt.closed.Load() {
		t.Errorf("%d instances were opened and %d closed", tgt.opened.Load(), tgt.closed.Load())
	}
	return out
}

func TestOutcomes(t *testing.T) {
	tgt := &target{kind: subject.InProcess, caps: []string{"pause"}}
	got := runCases(t, tgt, nil,
		makeCase("a/pass", func(t *engine.T) { t.Step("one") }),
		makeCase("a/errors", func(t *engine.T) { t.Errorf("first"); t.Errorf("second") }),
		makeCase("a/fatal", func(t *engine.T) { t.Fatalf("at %d", 1); t.Errorf("never") }),
		makeCase("a/broken", func(t *engine.T) { t.Broken("no tool") }),
		makeCase("a/panic", func(*engine.T) { panic("oh") }),
		makeCase("a/skip", func(t *engine.T) { t.Skip(engine.Prerequisite, "a/pass") }),
		makeCase("a/wrong-then-skip", func(t *engine.T) { t.Errorf("wrong"); t.Skip(engine.Platform, "linux") }),
		makeCase("a/input", func(t *engine.T) { t.Input("image") }),
		makeCase("a/needs", func(*engine.T) {}, func(c *engine.Case) { c.Needs = []string{"pause", "fork"} }),
		makeCase("a/denies", func(*engine.T) {}, func(c *engine.Case) { c.Denies = "pause" }),
		makeCase("a/kind", func(*engine.T) {}, func(c *engine.Case) { c.Kinds = []subject.Kind{subject.Binary} }),
		makeCase("a/newer", func(*engine.T) {}, func(c *engine.Case) { c.Since = 1 }),
	)
	type brief struct {
		Outcome  engine.Outcome
		Reason   engine.SkipReason
		Detail   string
		Problems []string
	}
	want := map[string]brief{
		"a/pass":            {Outcome: engine.Pass},
		"a/errors":          {Outcome: engine.Fail, Problems: []string{"first", "second"}},
		"a/fatal":           {Outcome: engine.Fail, Problems: []string{"at 1"}},
		"a/broken":          {Outcome: engine.Error, Problems: []string{"no tool"}},
		"a/panic":           {Outcome: engine.Error, Problems: []string{"the case panicked: oh"}},
		"a/skip":            {Outcome: engine.Skip, Reason: engine.Prerequisite, Detail: "a/pass"},
		"a/wrong-then-skip": {Outcome: engine.Fail, Problems: []string{"wrong"}},
		"a/input":           {Outcome: engine.Skip, Reason: engine.NeedsInput, Detail: "image"},
		"a/needs":           {Outcome: engine.Skip, Reason: engine.NotDeclared, Detail: "fork"},
		"a/denies":          {Outcome: engine.Skip, Reason: engine.Declared, Detail: "pause"},
		"a/kind":            {Outcome: engine.Skip, Reason: engine.OtherTarget, Detail: "in_process"},
		"a/newer":           {Outcome: engine.Skip, Reason: engine.NewerThanSubject, Detail: "the plugin knows minor 0, the case came with 1"},
	}
	for id, w := range want {
		r := got[id]
		b := brief{r.Outcome, r.SkipReason, r.Detail, r.Problems}
		for i, p := range b.Problems {
			b.Problems[i], _, _ = strings.Cut(p, "\n")
		}
		if len(b.Problems) == 0 {
			b.Problems = nil
		}
		if diff := cmp.Diff(w, b); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	if len(got["a/pass"].Steps) != 1 {
		t.Errorf("the trail of a/pass is %v: want one step", got["a/pass"].Steps)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		got := runCases(t, &target{kind: subject.InProcess}, nil,
			makeCase("a/obedient", func(t *engine.T) { <-t.Context().Done() }, func(c *engine.Case) { c.Budget = time.Second }),
			makeCase("a/deaf", func(*engine.T) { <-hold }, func(c *engine.Case) { c.Budget = time.Second }),
			makeCase("a/quick", func(*engine.T) {}),
		)
		close(hold)
		if r := got["a/obedient"]; r.Outcome != engine.Fail || r.Elapsed != time.Second || !strings.Contains(r.Problems[0], "budget of 1s") {
			t.Errorf("a/obedient ended with %s after %s: %q", r.Outcome, r.Elapsed, r.Problems)
		}
		if r := got["a/deaf"]; r.Outcome != engine.Fail || len(r.Problems) != 2 || !strings.Contains(r.Problems[1], "still hung") {
			t.Errorf("a/deaf ended with %s: %q", r.Outcome, r.Problems)
		}
		if r := got["a/quick"]; r.Outcome != engine.Pass {
			t.Errorf("a/quick ended with %s", r.Outcome)
		}
	})
}

// TestSlow: on a slow machine everything may take longer.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits time.Duration
		got := runCases(t, &target{kind: subject.InProcess}, func(o *engine.Options) { o.Slow = 3 },
			makeCase("a/slow", func(t *engine.T) {
				waits = t.Slowly(time.Second)
				<-t.Context().Done()
			}, func(c *engine.Case) { c.Budget = time.Second }),
		)
		if r := got["a/slow"]; r.Elapsed != 3*time.Second || waits != 3*time.Second {
			t.Errorf("it had %s, and waits %s for a second: want 3s", r.Elapsed, waits)
		}
	})
}

func TestKnownFailures(t *testing.T) {
	now := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	known := func(o *engine.Options) {
		o.Now = func() time.Time { return now }
		o.Known = []engine.Known{
			{Case: "a/known", Expires: now.AddDate(0, 0, 1)},
			{Case: "a/expired", Expires: now},
			{Case: "a/stale", Expires: now.AddDate(1, 0, 0)},
			{Case: "a/skipped", Expires: now.AddDate(1, 0, 0)},
		}
	}
	fails := func(t *engine.T) { t.Errorf("wrong") }
	got := runCases(t, &target{kind: subject.InProcess}, known,
		makeCase("a/known", fails), makeCase("a/expired", fails), makeCase("a/stale", func(*engine.T) {}),
		makeCase("a/skipped", func(t *engine.T) { t.Skip(engine.Platform, "linux") }),
	)
	for id, want := range map[string]engine.Outcome{
		"a/known": engine.KnownFail, "a/expired": engine.Fail, "a/stale": engine.UnexpectedPass, "a/skipped": engine.Skip,
	} {
		if got[id].Outcome != want || got[id].Known == nil {
			t.Errorf("%s ended with %s: want %s", id, got[id].Outcome, want)
		}
	}
}

func TestWhatCasesMakeIsRemoved(t *testing.T) {
	makes := func(id string) func(*engine.T) {
		return func(t *engine.T) {
			_, err := t.Client().CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{
				Identity: &providerv1.Identity{SandboxId: id, Owner: t.Owner()},
			})
			if err != nil {
				t.Broken("create: %v", err)
			}
			t.Fatalf("and then it fails")
		}
	}
	tgt := &target{kind: subject.InProcess}
	var owners []string
	runCases(t, tgt, nil, makeCase("a/one", makes("sbx-1")), makeCase("z/last", func(t *engine.T) {
		owners = t.Ledger().Owners()
	}, func(c *engine.Case) { c.Phase = engine.Last }))
	if diff := cmp.Diff([]string{"sbx-1"}, tgt.deleted); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"run/a/one"}, owners); diff != "" {
		t.Errorf("the last case does not know whose things to look for: %s", diff)
	}

	tgt = &target{kind: subject.InProcess, refuse: true}
	got := runCases(t, tgt, nil, makeCase("a/stuck", func(t *engine.T) {
		_, _ = t.Client().CreateSandbox(t.Context(), &providerv1.CreateSandboxRequest{Identity: &providerv1.Identity{SandboxId: "sbx-2", Owner: "o"}})
	}))
	if r := got["a/stuck"]; r.Outcome != engine.Fail || !strings.Contains(r.Problems[0], "could not be removed") {
		t.Errorf("a case whose sandbox cannot be removed ended with %s: %q", r.Outcome, r.Problems)
	}
}

func TestPhases(t *testing.T) {
	var running, most, alone atomic.Int32
	body := func(t *engine.T) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		<-timer.C
	}
	single := func(t *engine.T) { alone.Store(max(alone.Load(), running.Add(1))); running.Add(-1) }
	synctest.Test(t, func(t *testing.T) {
		tgt := &target{kind: subject.InProcess}
		phase := func(p engine.Phase) func(*engine.Case) { return func(c *engine.Case) { c.Phase = p } }
		var seen []string
		runCases(t, tgt, func(o *engine.Options) {
			o.Parallel = 3
			o.Observe = func(r engine.Result) { seen = append(seen, r.Case.ID) }
		},
			makeCase("a/1", body), makeCase("a/2", body), makeCase("a/3", body), makeCase("a/4", body), makeCase("a/5", body),
			makeCase("a/apart", body, phase(engine.Apart)),
			makeCase("a/last", single, phase(engine.Last)), makeCase("a/alone", single, phase(engine.Alone)),
		)
		if most.Load() != 3 || alone.Load() != 1 {
			t.Errorf("%d cases ran at once, %d beside one that is alone: want 3 and 1", most.Load(), alone.Load())
		}
		if n := len(seen); n != 8 || seen[6] != "a/alone" || seen[7] != "a/last" {
			t.Errorf("the order was %v: want alone and last at the end", seen)
		}
		if tgt.opened.Load() != 2 {
			t.Errorf("%d instances were opened: want the shared one and one apart", tgt.opened.Load())
		}
	})
}

func TestSeedDecidesOrderAndNumbers(t *testing.T) {
	order := func(seed uint64) (ids []string, number uint64) {
		var cases []engine.Case
		for _, id := range []string{"a/a", "a/b", "a/c", "a/d", "a/e", "a/f"} {
			cases = append(cases, makeCase(id, func(t *engine.T) {
				ids = append(ids, id)
				if id == "a/c" {
					number = t.Rand().Uint64()
				}
			}))
		}
		runCases(t, &target{kind: subject.InProcess}, func(o *engine.Options) { o.Seed, o.Parallel = seed, 1 }, cases...)
		return ids, number
	}
	one, n1 := order(1)
	again, n2 := order(1)
	other, n3 := order(2)
	if diff := cmp.Diff(one, again); diff != "" || n1 != n2 {
		t.Errorf("the same seed gave another order or number: %s", diff)
	}
	if cmp.Equal(one, other) || n1 == n3 {
		t.Errorf("another seed gave the same order or number: %v", other)
	}
}

func TestRunRefusesWhatItCannotDo(t *testing.T) {
	fine := makeCase("a/fine", func(*engine.T) {})
	for _, tc := range []struct {
		name, want string
		target     *target
		cases      []engine.Case
	}{
		{"target", "open the target: no such plugin", &target{openErr: errors.New("no such plugin")}, []engine.Case{fine}},
		{"twice", "exists twice", &target{}, []engine.Case{fine, fine}},
		{"id", "want an id such as", &target{}, []engine.Case{makeCase("Fine", func(*engine.T) {})}},
		{"requirement", "REQ-NO-001 is not in docs/spec", &target{}, []engine.Case{makeCase("a/b", func(*engine.T) {}, func(c *engine.Case) { c.Requirements = []string{"REQ-NO-001"} })}},
		{"capability", "capability fly is not in the registry", &target{}, []engine.Case{makeCase("a/b", func(*engine.T) {}, func(c *engine.Case) { c.Needs = []string{"fly"} })}},
		{"profile", `profile "x" does not exist`, &target{}, []engine.Case{makeCase("a/b", func(*engine.T) {}, func(c *engine.Case) { c.Profile = "x" })}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := engine.Run(t.Context(), engine.Options{Target: tc.target, Cases: tc.cases, Run: "run"})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v: want an error with %q", err, tc.want)
			}
		})
	}
}

func TestCutRunIsNoVerdict(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var seen []engine.Result
	_, err := engine.Run(ctx, engine.Options{
		Target: &target{kind: subject.InProcess}, Run: "run", Parallel: 1,
		Observe: func(r engine.Result) { seen = append(seen, r) },
		Cases: []engine.Case{
			makeCase("a/one", func(t *engine.T) { cancel(); <-t.Context().Done() }),
			makeCase("a/two", func(t *engine.T) { cancel(); <-t.Context().Done() }),
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v: want the run to say that it was cut", err)
	}
	for _, r := range seen {
		if r.Outcome != engine.Error {
			t.Errorf("%s ended with %s: want error, since nobody let it finish", r.Case.ID, r.Outcome)
		}
	}
}
