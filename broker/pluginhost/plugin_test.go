package pluginhost

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// fakeWorker is a process that lives in virtual time.
type fakeWorker struct {
	died   chan struct{}
	health func() error
	probes func() []string
	drains time.Duration // how long a stop in good order takes
	ended  bool
}

func newFakeWorker() *fakeWorker {
	return &fakeWorker{died: make(chan struct{}), health: func() error { return nil }, probes: func() []string { return nil }}
}

func (w *fakeWorker) facts() facts                            { return facts{pid: 1} }
func (w *fakeWorker) settled() <-chan struct{}                { return nil }
func (w *fakeWorker) connection() grpc.ClientConnInterface    { return nil }
func (w *fakeWorker) described() *providerv1.DescribeResponse { return nil }
func (w *fakeWorker) degraded() []string                      { return w.probes() }
func (w *fakeWorker) gone() <-chan struct{}                   { return w.died }
func (w *fakeWorker) farewell() string                        { return "farewell" }
func (w *fakeWorker) check(context.Context) error             { return w.health() }
func (w *fakeWorker) probe(context.Context) ([]string, error) { return w.probes(), nil }

func (w *fakeWorker) end(ctx context.Context) {
	timer := time.NewTimer(w.drains)
	defer timer.Stop()
	select {
	case <-timer.C:
		w.ended = true
	case <-ctx.Done():
	}
}

func (w *fakeWorker) kill() {
	select {
	case <-w.died:
	default:
		close(w.died)
	}
}

// starterFunc starts process gen.
type starterFunc func(ctx context.Context, gen uint64) (*fakeWorker, error)

func (f starterFunc) launch(ctx context.Context, gen uint64, connected func()) (worker, error) {
	w, err := f(ctx, gen)
	if err != nil {
		return nil, err
	}
	connected()
	return w, nil
}

// supervise runs a plugin over fake processes until the end of the bubble.
func supervise(t *testing.T, start starterFunc) *Plugin {
	t.Helper()
	opts := Options{}
	opts.setDefaults()
	p := newPlugin("test", start, &opts, func(Status) {})
	go p.run()
	t.Cleanup(func() {
		close(p.halt)
		<-p.done
	})
	return p
}

func TestHangIsNoticedAndBackedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		began := time.Now()
		p := supervise(t, func(_ context.Context, gen uint64) (*fakeWorker, error) {
			starts = append(starts, time.Since(began))
			w := newFakeWorker()
			if gen == 1 {
				w.health = func() error { return errors.New("no sign of life") }
			}
			return w, nil
		})
		if _, err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(t, 9*time.Second)
		if s := p.Status(); s.State != supervisor.Ready || s.Generation != 1 {
			t.Errorf("after one miss: %+v", s)
		}
		wait(t, 2*time.Second) // two checks, at 5 s and 10 s, and a wait of at most 250 ms
		if s := p.Status(); s.State != supervisor.Ready || s.Generation != 2 {
			t.Errorf("after two misses: %+v", s)
		}
		if len(starts) != 2 || starts[1] < 10*time.Second || starts[1] > 10250*time.Millisecond {
			t.Errorf("starts at %v", starts)
		}
	})
}

// wait lets virtual time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestQuarantineAndHalfOpenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var starts atomic.Int32
		broken.Store(true)
		p := supervise(t, func(context.Context, uint64) (*fakeWorker, error) {
			starts.Add(1)
			if broken.Load() {
				return nil, errors.New("no handshake")
			}
			return newFakeWorker(), nil
		})
		_, err := p.acquire(t.Context())
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING) {
			t.Errorf("call to a plugin that does not start: %v", err)
		}
		wait(t, 10*time.Second)
		_, err = p.acquire(t.Context())
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED) || starts.Load() != 5 {
			t.Errorf("after %d starts: %v", starts.Load(), err)
		}
		wait(t, time.Minute)
		if starts.Load() != 6 {
			t.Errorf("%d starts after a minute of quarantine, want one more", starts.Load())
		}
		broken.Store(false)
		wait(t, time.Minute)
		if s := p.Status(); s.State != supervisor.Ready {
			t.Errorf("half-open attempt: %+v", s)
		}
	})
}

func TestDegradedIsProbedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		p := supervise(t, func(context.Context, uint64) (*fakeWorker, error) {
			w := newFakeWorker()
			w.probes = func() []string {
				if mended.Load() {
					return nil
				}
				return []string{"quota: none left"}
			}
			return w, nil
		})
		if _, err := p.acquire(t.Context()); err != nil { // degraded serves
			t.Fatal(err)
		}
		if s := p.Status(); s.State != supervisor.Degraded || s.Reason != "quota: none left" {
			t.Errorf("got %+v", s)
		}
		mended.Store(true)
		wait(t, 31*time.Second)
		if s := p.Status(); s.State != supervisor.Ready || s.Reason != "" {
			t.Errorf("after the next probe: %+v", s)
		}
	})
}

func TestRestartDrainsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var workers []*fakeWorker
		p := supervise(t, func(context.Context, uint64) (*fakeWorker, error) {
			w := newFakeWorker()
			w.drains = 3 * time.Second
			workers = append(workers, w)
			return w, nil
		})
		if _, err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Second || !workers[0].ended || len(workers) != 2 {
			t.Errorf("took %s, drained %v, %d workers", took, workers[0].ended, len(workers))
		}
	})
}

func TestCallWaitsForStartWithinContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := supervise(t, func(ctx context.Context, _ uint64) (*fakeWorker, error) {
			timer := time.NewTimer(2 * time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
				return newFakeWorker(), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.acquire(ctx)
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := p.acquire(t.Context()); err != nil { // the start was not called off
			t.Error(err)
		}
		if s := p.Status(); s.Starts != 1 {
			t.Errorf("%d starts", s.Starts)
		}
	})
}

func TestSlowSubscriberKeepsTheLatest(t *testing.T) {
	h := &Host{}
	ctx, cancel := context.WithCancel(t.Context())
	changes := h.Subscribe(ctx)
	for i := range 10 * subscriberBuffer {
		h.watch.publish(Status{Starts: i})
	}
	var last Status
	for range subscriberBuffer {
		last = <-changes
	}
	if last.Starts != 10*subscriberBuffer-1 {
		t.Errorf("last change seen is %d", last.Starts)
	}
	cancel()
	if _, open := <-changes; open {
		t.Error("the channel outlives its context")
	}
	h.watch.close()
	if _, open := <-h.Subscribe(t.Context()); open {
		t.Error("a closed host has subscribers")
	}
}
