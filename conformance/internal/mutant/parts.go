package mutant

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// clone copies a message, so that a mutant does not change what the reference
// keeps.
func clone[M proto.Message](m M) M { return proto.CloneOf(m) }

// newKey is a key that no request had.
func newKey() string { return provider.NewKey() }

func bySandboxID(id string) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: &providerv1.SandboxRef{SandboxId: id}}}
}

// answers reports whether a server answers with a reason.
func answers(err error, reason providerv1.ErrorReason) bool {
	return err != nil && fault.From(err).Reason == reason
}

// overlap makes calls about one thing meet, for bugs that need two at once.
type overlap struct {
	mu    sync.Mutex
	calls map[string]*meeting
}

type meeting struct {
	present int
	once    sync.Once
	met     chan struct{} // closed, once, when a second one comes
}

func newOverlap() *overlap { return &overlap{calls: map[string]*meeting{}} }

// forAnother is how long a call waits for a second one: there may be none.
const forAnother = time.Second

// enter says how many calls about key are under way with this one. second is
// closed when there are two, and left must be called when this one is over.
func (o *overlap) enter(key string) (nth int, second <-chan struct{}, left func()) {
	o.mu.Lock()
	m := o.calls[key]
	if m == nil {
		m = &meeting{met: make(chan struct{})}
		o.calls[key] = m
	}
	m.present++
	if nth = m.present; nth == 2 {
		m.once.Do(func() { close(m.met) })
	}
	o.mu.Unlock()
	return nth, m.met, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if m.present--; m.present == 0 {
			delete(o.calls, key)
		}
	}
}

// wait waits until d is over, or ctx.
func wait(ctx context.Context, d time.Duration) { await(ctx, nil, d) }

// await waits until something happens, ctx ends, or d is over.
func await(ctx context.Context, happens <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-happens:
	case <-timer.C:
	case <-ctx.Done():
	}
}
