package fake

import (
	"context"
	"encoding/gob"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// faults injects errors. Each entry of the setting is
//
//	<Method>:<kind>[:<times>]
//
// where Method is the name of an RPC, or * for every one; times is how many
// calls fail, such as 2, or what share of them, such as 5%; without it every
// call does. With a state_dir, times counts on over restarts of the plugin, so
// that crash:1 is one crash; shares follow a random sequence that is fixed, but
// another one after each start. Kinds:
//
//	lost_answer   the call happens, and its answer is lost: UPSTREAM_UNAVAILABLE, effect unknown
//	lost_request  nothing happens, and nobody can know: UPSTREAM_UNAVAILABLE, effect unknown
//	late          as lost_answer, but the call happens half a second after that
//	slow          the call happens after two seconds, whether or not its caller still waits
//	unavailable   nothing happens: UPSTREAM_UNAVAILABLE, effect none
//	rate_limited  RATE_LIMITED, to be tried again after a second
//	quota         QUOTA_EXCEEDED
//	capacity      CAPACITY_EXHAUSTED
//	hang          nothing happens until the caller's deadline
//	hang_after    the call happens, and nobody hears of it until the caller's deadline
//	error         an error without a reason, which the SDK reports as PLUGIN_BUG
//	panic         the driver panics
//	crash         the plugin process exits at once, before anything happens
//	crash_after   the same after the call happened
//	freeze        the plugin process stops (SIGSTOP) before anything happens
//	freeze_after  the same after the call happened
type faults struct {
	mu   sync.Mutex
	list []*injection
	rng  *rand.Rand
	// store keeps the tally; it has no folder if nothing is kept.
	store *store
	tally tally
}

// tally is what faults remember over restarts of the plugin.
type tally struct {
	// Starts makes the random sequence of each start another one.
	Starts uint64
	// Fired counts, by entry, calls that failed.
	Fired map[string]int
}

type injection struct {
	// entry is the text of the setting, with its index.
	entry  string
	method string
	kind   string
	// left is how many calls still fail; -1: all, or share of them.
	left  int
	share float64
}

var faultKinds = map[string]bool{
	"lost_answer": true, "lost_request": true, "late": true, "slow": true,
	"unavailable": true, "rate_limited": true, "quota": true, "capacity": true,
	"hang": true, "hang_after": true, "error": true, "panic": true,
	"crash": true, "crash_after": true, "freeze": true, "freeze_after": true,
}

func parseFaults(entries []string) (*faults, error) {
	out := &faults{rng: sequence(0), store: &store{}}
	const want = "want <Method>:<kind>[:<times or share%>], such as CreateSandbox:lost_answer:2"
	for i, entry := range entries {
		field := "settings.faults[" + strconv.Itoa(i) + "]"
		parts := strings.Split(entry, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !faultKinds[parts[1]] {
			return nil, fault.Field(field, entry, want)
		}
		in := &injection{entry: strconv.Itoa(i) + " " + entry, method: parts[0], kind: parts[1], left: -1, share: 1}
		if len(parts) == 3 {
			if percent, ok := strings.CutSuffix(parts[2], "%"); ok {
				share, err := strconv.ParseFloat(percent, 64)
				if err != nil || share < 0 || share > 100 {
					return nil, fault.Field(field, entry, want)
				}
				in.share = share / 100
			} else if n, err := strconv.Atoi(parts[2]); err == nil && n > 0 {
				in.left = n
			} else {
				return nil, fault.Field(field, entry, want)
			}
		}
		out.list = append(out.list, in)
	}
	return out, nil
}

func sequence(start uint64) *rand.Rand {
	return rand.New(rand.NewPCG(1, 2+start)) //nolint:gosec // repeatable on purpose
}

// faultTally is the class of the one object that is a tally.
const faultTally = "faults"

// resume goes on with the tally that an earlier plugin kept in the store.
func (f *faults) resume(s *store) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.read(faultTally, func(d *gob.Decoder) error { return d.Decode(&f.tally) }); err != nil {
		return err
	}
	if f.tally.Fired == nil {
		f.tally.Fired = map[string]int{}
	}
	for _, in := range f.list {
		if in.left > 0 {
			in.left = max(0, in.left-f.tally.Fired[in.entry])
		}
	}
	f.store, f.rng = s, sequence(f.tally.Starts)
	f.tally.Starts++
	return f.store.write(faultTally, "tally", &f.tally)
}

// firing is the kind of fault that this call suffers, or "".
type firing string

func (f *faults) fire(method string) (firing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.list {
		if (in.method != "*" && in.method != method) || in.left == 0 {
			continue
		}
		if in.share < 1 && f.rng.Float64() >= in.share {
			continue
		}
		if in.left < 0 || f.store.dir == "" {
			in.left = max(in.left-1, -1)
			return firing(in.kind), nil
		}
		in.left--
		f.tally.Fired[in.entry]++
		return firing(in.kind), f.store.write(faultTally, "tally", &f.tally) // before the process may die of it
	}
	return "", nil
}

// crashCode is the exit code of a crash, which no other end of a plugin has.
const crashCode = 70

// lateness is when a call happens whose answer was lost before; slowness how long
// a slow one takes.
const (
	lateness = 500 * time.Millisecond
	slowness = 2 * time.Second
)

// before fails the call without effect, if that is the fault.
func (f firing) before(ctx context.Context) error {
	switch f {
	case "lost_request":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the request to the fake vendor was lost").
			WithEffect(providerv1.Effect_EFFECT_UNKNOWN)
	case "slow":
		return pauseFor(context.WithoutCancel(ctx), slowness)
	case "unavailable":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the fake vendor is not available").
			WithEffect(providerv1.Effect_EFFECT_NONE)
	case "rate_limited":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "the fake vendor limits the rate").WithRetryAfter(time.Second)
	case "quota":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_QUOTA_EXCEEDED, "the fake vendor's quota is used up")
	case "capacity":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED, "the fake vendor has no room left")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "error":
		return errors.New("injected error")
	case "panic":
		panic("injected panic")
	case "crash":
		os.Exit(crashCode)
	case "freeze":
		return freeze()
	}
	return nil
}

// freeze stops the process; whoever lets it go on gets the call done.
func freeze() error { return syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// after loses the answer of a call that happened, or will, if that is the fault.
func (f firing) after(ctx context.Context) error {
	switch f {
	case "hang_after":
		<-ctx.Done()
		return ctx.Err()
	case "freeze_after":
		return freeze()
	case "lost_answer", "late":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the fake vendor's answer was lost").
			WithEffect(providerv1.Effect_EFFECT_UNKNOWN)
	case "crash_after":
		os.Exit(crashCode)
	}
	return nil
}
