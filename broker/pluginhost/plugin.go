package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Plugin is one supervised provider. It is a grpc.ClientConnInterface whose calls
// go to whichever process serves at that moment; see Invoke. It is safe for
// concurrent use.
type Plugin struct {
	name    string
	log     *slog.Logger
	start   starter
	limits  supervisor.Limits
	onReady func(context.Context, *Plugin, uint64)
	notify  func(Status)

	events chan supervisor.Event
	halt   chan struct{} // closed: stop in good order
	abort  chan struct{} // closed: stop at once
	done   chan struct{} // closed: run has returned
	tasks  sync.WaitGroup

	abortOnce sync.Once

	mu   sync.Mutex
	view *view

	// Owned by run.
	machine *supervisor.Machine
	orders  orders
	starts  int
}

// starter starts processes; launcher in production.
type starter interface {
	launch(ctx context.Context, gen uint64, connected func()) (worker, error)
}

// worker is one process; instance in production.
type worker interface {
	facts() facts
	// settled is closed when facts will not change any more.
	settled() <-chan struct{}
	connection() grpc.ClientConnInterface
	described() *providerv1.DescribeResponse
	// degraded says what the probe at the start complained of.
	degraded() []string
	// gone is closed when the process has ended by itself or otherwise.
	gone() <-chan struct{}
	// farewell says how it ended; valid after gone.
	farewell() string
	check(ctx context.Context) error
	probe(ctx context.Context) ([]string, error)
	// end and kill return when nothing of the process is left.
	end(ctx context.Context)
	kill()
}

type facts struct {
	pid          int
	path, sha256 string
}

// orders reach the goroutine that lives with one process.
type orders struct {
	ctx    context.Context //nolint:containedctx // it is the process's life
	end    chan struct{}
	cancel context.CancelFunc
	probe  chan struct{}
}

// view is what callers see; it is replaced and never changed.
type view struct {
	state   supervisor.State
	reason  string
	gen     uint64
	since   time.Time
	wake    time.Time
	starts  int
	worker  worker // the latest one; it serves if state does
	closed  bool
	changed chan struct{} // closed when there is a newer view
}

func newPlugin(name string, start starter, opts *Options, notify func(Status)) *Plugin {
	return &Plugin{
		name:    name,
		log:     opts.Logger.With("provider", name),
		start:   start,
		limits:  opts.Limits,
		onReady: opts.OnReady,
		notify:  notify,
		events:  make(chan supervisor.Event),
		halt:    make(chan struct{}),
		abort:   make(chan struct{}),
		done:    make(chan struct{}),
		view:    &view{state: supervisor.Stopped, since: time.Now(), changed: make(chan struct{})},
		machine: supervisor.New(opts.Limits, func(limit time.Duration) time.Duration {
			return rand.N(limit + 1) //nolint:gosec // spreads load, guards nothing
		}),
	}
}

// Name returns the provider's name.
func (p *Plugin) Name() string { return p.name }

// run is the only goroutine that steps the machine. It returns when the plugin
// has been stopped and everything it started has ended.
func (p *Plugin) run() {
	defer close(p.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	halt, abort := p.halt, p.abort
	for halt != nil || p.machine.Alive() {
		timer.Stop()
		if wake, ok := p.machine.Wake(); ok {
			timer.Reset(time.Until(wake))
		}
		select {
		case ev := <-p.events:
			p.step(ev)
		case <-timer.C:
			p.step(supervisor.Tick{})
		case <-halt:
			halt = nil
			p.step(supervisor.Stop{})
		case <-abort:
			abort = nil
			if p.orders.cancel != nil {
				p.orders.cancel()
			}
		}
	}
	p.publish(true)
	p.tasks.Wait()
}

func (p *Plugin) step(ev supervisor.Event) {
	before := p.machine.State()
	for _, action := range p.machine.Step(time.Now(), ev) {
		p.perform(action)
	}
	if _, ok := ev.(supervisor.Health); ok && p.machine.State() == before {
		return
	}
	p.publish(false)
	if after := p.machine.State(); after != before {
		p.logTransition(before, after)
	}
	if c, ok := ev.(supervisor.Configured); ok && p.machine.State().Serving() && p.onReady != nil {
		ctx := p.orders.ctx
		p.tasks.Go(func() { p.onReady(ctx, p, c.Gen) })
	}
}

func (p *Plugin) logTransition(before, after supervisor.State) {
	level := slog.LevelDebug
	switch after {
	case supervisor.Quarantined:
		level = slog.LevelError
	case supervisor.Backoff, supervisor.Degraded:
		level = slog.LevelWarn
	case supervisor.Ready:
		level = slog.LevelInfo
	default:
	}
	p.log.Log(context.Background(), level, "plugin state changed", "from", before.String(), "to", after.String(),
		"generation", p.machine.Generation(), "reason", p.machine.Reason())
}

func (p *Plugin) perform(action supervisor.Action) {
	switch action.Act {
	case supervisor.Launch:
		ctx, cancel := context.WithCancel(context.Background())
		p.orders = orders{ctx: ctx, cancel: cancel, end: make(chan struct{}), probe: make(chan struct{}, 1)}
		o := p.orders
		p.starts++
		p.tasks.Go(func() { p.live(o, action.Gen) })
	case supervisor.End:
		close(p.orders.end)
	case supervisor.Kill:
		p.orders.cancel()
	case supervisor.Probe:
		select {
		case p.orders.probe <- struct{}{}:
		default:
		}
	}
}

// live spends the life of one process with it. Exited is its last word.
func (p *Plugin) live(o orders, gen uint64) {
	defer o.cancel()
	w, err := p.start.launch(o.ctx, gen, func() { p.post(supervisor.Connected{Gen: gen}) })
	if err != nil {
		var hopeless hopelessError
		p.post(supervisor.Exited{Gen: gen, Reason: err.Error(), Hopeless: errors.As(err, &hopeless)})
		return
	}
	p.mu.Lock()
	next := *p.view
	next.worker = w
	p.view = &next // state is as before; whoever waits, waits for the state
	p.mu.Unlock()
	p.post(supervisor.Configured{Gen: gen, Reasons: w.degraded()})

	var watch sync.WaitGroup
	watch.Go(func() { p.watch(o, w, gen) })
	select {
	case <-w.gone():
	case <-o.ctx.Done():
	case <-o.end:
		w.end(o.ctx)
	}
	o.cancel()
	w.kill()
	watch.Wait()
	p.post(supervisor.Exited{Gen: gen, Reason: w.farewell()})
}

// watch checks the health of a process, and probes it when told to, until its
// context ends.
func (p *Plugin) watch(o orders, w worker, gen uint64) {
	ticker := time.NewTicker(p.limits.HealthEvery)
	defer ticker.Stop()
	settled := w.settled()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-settled:
			settled = nil
			p.post(supervisor.Tick{}) // makes the facts public
		case <-ticker.C:
			health := supervisor.Health{Gen: gen}
			ctx, cancel := context.WithTimeout(o.ctx, p.limits.HealthDeadline)
			err := w.check(ctx)
			cancel()
			if err != nil {
				health.Missed = err.Error()
				p.log.WarnContext(o.ctx, "health check was missed", "generation", gen, "error", err)
			}
			p.post(health)
		case <-o.probe:
			ctx, cancel := context.WithTimeout(o.ctx, probeDeadline)
			reasons, err := w.probe(ctx)
			cancel()
			if err != nil {
				reasons = []string{"probe: " + err.Error()}
			}
			p.post(supervisor.Probed{Gen: gen, Reasons: reasons})
		}
	}
}

// post hands an event to run; after the end nobody wants it.
func (p *Plugin) post(ev supervisor.Event) {
	select {
	case p.events <- ev:
	case <-p.done:
	}
}

// publish makes the machine's state visible and wakes all who wait for a change.
func (p *Plugin) publish(closed bool) {
	p.mu.Lock()
	old := p.view
	next := &view{
		state: p.machine.State(), reason: p.machine.Reason(), gen: p.machine.Generation(),
		since: old.since, starts: p.starts, worker: old.worker, closed: closed || old.closed,
		changed: make(chan struct{}),
	}
	next.wake, _ = p.machine.Wake()
	if next.state != old.state {
		next.since = time.Now()
	}
	p.view = next
	close(old.changed)
	status := next.status(p.name)
	p.mu.Unlock()
	p.notify(status)
}

func (p *Plugin) snapshot() *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// killNow makes a stop that is under way an immediate one.
func (p *Plugin) killNow() { p.abortOnce.Do(func() { close(p.abort) }) }

// Restart ends the process, if there is one, and starts another; it lifts a
// quarantine. It waits until the new one serves and returns why it does not.
func (p *Plugin) Restart(ctx context.Context) error {
	before := p.snapshot().gen
	select {
	case p.events <- supervisor.Restart{}:
	case <-p.halt:
		return p.closedError()
	case <-ctx.Done():
		return fmt.Errorf("restart provider %q: %w", p.name, ctx.Err())
	}
	for {
		v := p.snapshot()
		if v.gen > before || v.closed {
			_, err := p.acquire(ctx)
			return err
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return fmt.Errorf("restart provider %q: %w", p.name, ctx.Err())
		}
	}
}

// Status is what is known about a plugin at one moment.
type Status struct {
	Name  string
	State supervisor.State
	// Reason says why State is not Ready; after a crash, the last words.
	Reason string
	// Since is when State began.
	Since time.Time
	// RetryAt is when the next start is due; zero if none is.
	RetryAt time.Time
	// Generation counts processes; Starts does too, this host's only.
	Generation uint64
	Starts     int
	// PID is 0 while there is no process.
	PID int
	// Path and SHA256 (hex) are of the binary that runs or ran last. SHA256 is
	// empty while it is not known.
	Path, SHA256 string
	// Version and Capabilities are what the plugin last said. The capabilities
	// belong to the receiver.
	Version      string
	Capabilities []*providerv1.Capability
}

func (v *view) status(name string) Status {
	s := Status{
		Name: name, State: v.state, Reason: v.reason, Since: v.since,
		Generation: v.gen, Starts: v.starts,
	}
	if v.state == supervisor.Backoff || v.state == supervisor.Quarantined {
		s.RetryAt = v.wake
	}
	if v.worker == nil {
		return s
	}
	f := v.worker.facts()
	s.Path, s.SHA256 = f.path, f.sha256
	if v.state.Serving() {
		s.PID = f.pid
	}
	d := v.worker.described()
	s.Version = d.GetVersion()
	for _, c := range d.GetCapabilities() {
		s.Capabilities = append(s.Capabilities, proto.CloneOf(c))
	}
	return s
}

// Settled waits until Status knows all about the process that runs now; its
// digest may be a moment behind its start.
func (p *Plugin) Settled(ctx context.Context) {
	w := p.snapshot().worker
	if w == nil {
		return
	}
	select {
	case <-w.settled():
	case <-w.gone():
	case <-ctx.Done():
	}
}

// Status returns what is known now.
func (p *Plugin) Status() Status { return p.snapshot().status(p.name) }
