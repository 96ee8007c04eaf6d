package fake

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
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
// call does. Shares follow a fixed random sequence. Kinds:
//
//	lost_answer   the call happens, and its answer is lost: UPSTREAM_UNAVAILABLE, effect unknown
//	unavailable   nothing happens: UPSTREAM_UNAVAILABLE, effect none
//	rate_limited  RATE_LIMITED, to be tried again after a second
//	quota         QUOTA_EXCEEDED
//	capacity      CAPACITY_EXHAUSTED
//	hang          nothing happens until the caller's deadline
//	error         an error without a reason, which the SDK reports as PLUGIN_BUG
//	panic         the driver panics
//	crash         the plugin process exits at once, before anything happens
//	crash_after   the same after the call happened
type faults struct {
	mu   sync.Mutex
	list []*injection
	rng  *rand.Rand
}

type injection struct {
	method string
	kind   string
	// left is how many calls still fail; -1: all, or share of them.
	left  int
	share float64
}

var faultKinds = map[string]bool{
	"lost_answer": true, "unavailable": true, "rate_limited": true, "quota": true, "capacity": true,
	"hang": true, "error": true, "panic": true, "crash": true, "crash_after": true,
}

func parseFaults(entries []string) (*faults, error) {
	out := &faults{rng: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // repeatable on purpose
	const want = "want <Method>:<kind>[:<times or share%>], such as CreateSandbox:lost_answer:2"
	for i, entry := range entries {
		field := "settings.faults[" + strconv.Itoa(i) + "]"
		parts := strings.Split(entry, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !faultKinds[parts[1]] {
			return nil, fault.Field(field, entry, want)
		}
		in := &injection{method: parts[0], kind: parts[1], left: -1, share: 1}
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

// firing is the kind of fault that this call suffers, or "".
type firing string

func (f *faults) fire(method string) firing {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.list {
		if (in.method != "*" && in.method != method) || in.left == 0 {
			continue
		}
		if in.share < 1 && f.rng.Float64() >= in.share {
			continue
		}
		if in.left > 0 {
			in.left--
		}
		return firing(in.kind)
	}
	return ""
}

// crashCode is the exit code of a crash, which no other end of a plugin has.
const crashCode = 70

// before fails the call without effect, if that is the fault.
func (f firing) before(ctx context.Context) error {
	switch f {
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
	}
	return nil
}

// after loses the answer of a call that happened, if that is the fault.
func (f firing) after() error {
	switch f {
	case "lost_answer":
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the fake vendor's answer was lost").
			WithEffect(providerv1.Effect_EFFECT_UNKNOWN)
	case "crash_after":
		os.Exit(crashCode)
	}
	return nil
}
