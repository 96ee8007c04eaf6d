package engine

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// T is what a case sees: its context, its subject, and ways to say what it
// found. Fatalf, Skip and Broken end the case and must be called from its own
// goroutine; everything else is safe for concurrent use.
type T struct {
	ctx   context.Context //nolint:containedctx // the context of the one case this T is
	who   Case
	start time.Time
	inst  *subject.Instance
	rec   *subject.Recorder
	env   *environment
	rng   *rand.Rand

	mu       sync.Mutex
	problems []string
	broken   []string
	steps    []Step
	measured map[string][]time.Duration
	skipped  SkipReason
	detail   string
	cleanups []func(context.Context)
}

// environment is what all cases of a run share.
type environment struct {
	target subject.Target
	run    string
	inputs map[string]string
	ledger *subject.Ledger
	// slow is Options.Slow.
	slow int
}

// slowly is how long something may take on this machine that takes so long at most on
// a usual one.
func (e *environment) slowly(d time.Duration) time.Duration { return d * time.Duration(e.slow) }

func newT(ctx context.Context, c Case, env *environment, inst *subject.Instance, seed uint64) *T {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.ID)) // a hash does not fail
	return &T{
		ctx: ctx, who: c, start: time.Now(), inst: inst, env: env,
		rec: subject.NewRecorder(inst.Conn, env.ledger),
		rng: rand.New(rand.NewPCG(seed, h.Sum64())), //nolint:gosec // must be repeatable from the seed
	}
}

// Context ends with the case's budget. It carries a deadline.
func (t *T) Context() context.Context { return t.ctx }

// Client speaks to the subject. Calls without a deadline of their own get the
// contract's default for their method, and what they make is removed after the
// case.
func (t *T) Client() providerv1.ProviderServiceClient {
	return providerv1.NewProviderServiceClient(t.rec)
}

// ClientOf speaks to another instance, and records as Client does.
func (t *T) ClientOf(inst *subject.Instance) providerv1.ProviderServiceClient {
	return providerv1.NewProviderServiceClient(t.rec.For(inst.Conn))
}

// Conn is what Client speaks through, for calls that are made from descriptors.
func (t *T) Conn() grpc.ClientConnInterface { return t.rec }

// Instance is the plugin under test.
func (t *T) Instance() *subject.Instance { return t.inst }

// Target opens further instances of the same plugin.
func (t *T) Target() subject.Target { return t.env.target }

// Ledger knows everything that was made in this run.
func (t *T) Ledger() *subject.Ledger { return t.env.ledger }

// Slowly is how long to wait on this machine for something that takes so long at most
// on a usual one. What the contract says about time is not for it.
func (t *T) Slowly(d time.Duration) time.Duration { return t.env.slowly(d) }

// Owner is the owner under which the case makes things; it is its own.
func (t *T) Owner() string { return t.env.run + "/" + t.who.ID }

// Has reports whether the subject declares a capability as supported.
func (t *T) Has(capability string) bool { return t.inst.Has(capability) }

// Rand is seeded by the run and the case, for one goroutine.
func (t *T) Rand() *rand.Rand { return t.rng }

// Input returns what the operator gave under a name, such as an image. Without
// it the case is skipped.
func (t *T) Input(name string) string {
	value := t.env.inputs[name]
	if value == "" {
		t.Skip(NeedsInput, name)
	}
	return value
}

// InputOr is Input with a default.
func (t *T) InputOr(name, otherwise string) string {
	if value := t.env.inputs[name]; value != "" {
		return value
	}
	return otherwise
}

// Step notes what the case does next.
func (t *T) Step(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, Step{At: time.Since(t.start), Text: fmt.Sprintf(format, args...)})
}

// Errorf notes that the subject is wrong, and lets the case go on.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// Fatalf notes that the subject is wrong, and ends the case.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// Broken notes that the suite cannot do its work, and ends the case.
func (t *T) Broken(format string, args ...any) {
	t.mu.Lock()
	t.broken = append(t.broken, fmt.Sprintf(format, args...))
	t.mu.Unlock()
	runtime.Goexit()
}

// Skip ends the case without a verdict. What was found wrong before still
// counts.
func (t *T) Skip(reason SkipReason, detail string) {
	t.mu.Lock()
	t.skipped, t.detail = reason, detail
	t.mu.Unlock()
	runtime.Goexit()
}

// Measure takes note of a duration for the report; it is no verdict.
func (t *T) Measure(name string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.measured == nil {
		t.measured = map[string][]time.Duration{}
	}
	t.measured[name] = append(t.measured[name], d)
}

// Cleanup runs f after the case, last registered first, with a context of its
// own. What the client made is removed after that, without being asked.
func (t *T) Cleanup(f func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// Elapsed is the time since the case began.
func (t *T) Elapsed() time.Duration { return time.Since(t.start) }

// Failed reports whether anything was found wrong so far.
func (t *T) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.problems) > 0
}

// cleanUp runs the cleanups and removes what is left.
func (t *T) cleanUp(ctx context.Context) {
	t.mu.Lock()
	cleanups := slices.Clone(t.cleanups)
	t.cleanups = nil
	t.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f(ctx)
	}
	if err := t.rec.RemoveAll(ctx); err != nil {
		t.Errorf("what the case made could not be removed: %v", err)
	}
}

// result sums up a case that has ended.
func (t *T) result(trace bool) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Result{
		Case: t.who, Problems: slices.Clone(t.problems), Steps: slices.Clone(t.steps), Measured: t.measured,
		Started: t.start, SkipReason: t.skipped, Detail: t.detail,
	}
	switch {
	case len(t.problems) > 0:
		r.Outcome, r.SkipReason, r.Detail = Fail, "", ""
	case len(t.broken) > 0:
		r.Outcome, r.Problems, r.SkipReason, r.Detail = Error, slices.Clone(t.broken), "", ""
	case t.skipped != "":
		r.Outcome = Skip
	default:
		r.Outcome = Pass
	}
	if r.Outcome == Fail || r.Outcome == Error {
		r.Calls = t.rec.Calls(lastCalls)
		r.Stderr = t.inst.Stderr()
	}
	if trace {
		r.Calls = t.rec.Calls(0)
	}
	return r
}

// lastCalls is how many calls a failure shows: enough to see what led to it.
const lastCalls = 6
