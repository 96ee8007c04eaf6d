package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/policy"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Options are the settings of a Service; zero values mean the defaults.
type Options struct {
	// Placement is what the configuration says about providers, by name. One that is
	// not there has weight 1 and nothing else.
	Placement map[string]placement.Policy
	// Rules rule providers out for requests, and move scores. Nil: none do.
	Rules *policy.Set
	// Clock is what measurements of providers, use and budgets are timed by. Nil:
	// time.Now.
	Clock func() time.Time
	// Caller is who makes calls whose context names nobody, for programs that embed
	// the service. Nil: such calls are refused.
	Caller *authz.Principal
	// Log is where the service tells what it did by itself. Nil: nowhere.
	Log *slog.Logger
	// Metrics count what it does. Nil: nobody counts.
	Metrics *telemetry.Metrics
	// Lifetime of sandboxes whose request says none. Zero: no end.
	Lifetime time.Duration
	// Idle policy of sandboxes whose request says none. Nil: none.
	Idle *brokerv1.Idle
	// OrphanGrace is how old a vendor object without a row must be to be deleted.
	// Zero: 15 minutes.
	OrphanGrace time.Duration
	// ReapInterval is how often the vendors' listings are compared with the rows.
	// Zero: 15 minutes.
	ReapInterval time.Duration
	// SettleGrace is how long after it was asked for a snapshot may still appear in
	// the provider's listing, if the broker does not know what became of the call.
	// Zero: 75 s, which is the longest call (60 s) and the time an orphaned plugin
	// lives on (10 s), with some to spare.
	SettleGrace time.Duration
	// Takeover is how long after an operation began another broker on a shared store
	// looks whether the one that does it still lives. Zero: 10 s.
	Takeover time.Duration
	// ReplicaLag is how far behind brokers on a shared store may be in what they know of
	// each other's sandboxes; a sandbox must be idle three times as long beyond its
	// timeout. Zero: 5 s.
	ReplicaLag time.Duration
	// BudgetInterval is how often running sandboxes are held against budgets that do
	// not let them run on. Zero: 10 s.
	BudgetInterval time.Duration
	// Retry is the first back-off after a failed attempt. Zero: 250 ms. It doubles
	// up to 256 times itself.
	Retry time.Duration
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = telemetry.Discard()
	}
	o.OrphanGrace = orElse(o.OrphanGrace, 15*time.Minute)
	o.ReapInterval = orElse(o.ReapInterval, 15*time.Minute)
	o.SettleGrace = orElse(o.SettleGrace, 75*time.Second)
	o.Takeover = orElse(o.Takeover, 10*time.Second)
	o.ReplicaLag = orElse(o.ReplicaLag, 5*time.Second)
	o.BudgetInterval = orElse(o.BudgetInterval, 10*time.Second)
	o.Retry = orElse(o.Retry, 250*time.Millisecond)
	return o
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Service is the broker. New makes one, Close ends it.
type Service struct {
	store     state.Store
	providers Providers
	opts      Options
	log       *slog.Logger
	metrics   *telemetry.Metrics
	owner     string
	locks     locks
	uses      uses

	// life ends when Close gives up waiting; it bounds operations whose caller
	// has left.
	life    context.Context //nolint:containedctx // the life of the service itself
	die     context.CancelFunc
	ops     sync.WaitGroup
	closed  chan struct{}
	closing sync.Once

	wake    chan struct{}
	recheck idQueue
	// unsettled names providers with snapshots of which it is not known whether
	// they were made.
	unsettled idQueue
	verifying verifying
	fresh     freshness
	watching  watching
	measures  measures
	loops     sync.WaitGroup
}

// New returns a service that has begun to settle what an earlier one left
// unfinished. The store and the providers must outlive it.
func New(ctx context.Context, store state.Store, providers Providers, opts Options) (*Service, error) {
	owner, err := store.Owner(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the broker's id: %w", err)
	}
	opts = opts.withDefaults()
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{
		store: store, providers: providers, opts: opts, log: opts.Log, metrics: opts.Metrics, owner: owner,
		life: life, die: die, closed: make(chan struct{}), wake: make(chan struct{}, 1),
		locks: locks{store: store, owner: owner},
	}
	s.uses.init()
	s.watching.ended = make(chan struct{})
	s.verifying.init()
	if err := s.measures.load(ctx, store); err != nil {
		die()
		return nil, err
	}
	for _, name := range providers.Names() {
		s.ProviderReady(name)
	}
	s.loops.Go(s.reconcile)
	return s, nil
}

// Owner returns the broker's id, which every vendor object carries.
func (s *Service) Owner() string { return s.owner }

// Close stops reconciling at once and waits for operations under way until ctx
// ends; those it then cuts short are settled by the next service.
func (s *Service) Close(ctx context.Context) {
	s.EndWatches()
	s.closing.Do(func() { close(s.closed) })
	idle := make(chan struct{})
	go func() { s.ops.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	s.die()
	<-idle
	s.loops.Wait()
	s.uses.flush(context.WithoutCancel(ctx), s.store)
	s.logged(ctx, "measurements are not stored", s.measures.flush(context.WithoutCancel(ctx), s.store))
}

// ProviderReady tells the service that a provider can be called (again), so that
// its sandboxes are looked up. It returns at once.
func (s *Service) ProviderReady(name string) {
	s.verifying.begin(name, func() { s.loops.Go(func() { s.verify(name) }) })
}

// poke makes the reconciler look now.
func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// begin starts an operation that goes on when the caller leaves. end must be
// called.
func (s *Service) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	select {
	case <-s.closed:
		return nil, nil, fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the broker is stopping")
	default:
	}
	s.ops.Add(1)
	opCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(s.life, cancel)
	return opCtx, func() { stop(); cancel(); s.ops.Done() }, nil
}

// lock takes a sandbox's operation lock.
func (s *Service) lock(ctx context.Context, id string) (unlock func(), err error) {
	return s.locks.lock(ctx, id)
}

// find returns a sandbox that exists for the caller, by id or live name; a gone
// one only by id.
func (s *Service) find(ctx context.Context, idOrName string) (*state.Sandbox, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	var sb *state.Sandbox
	if isID(idOrName) {
		sb, err = s.store.Sandbox(ctx, idOrName)
	} else {
		sb, err = s.store.SandboxNamed(ctx, who.Acting, idOrName)
	}
	if errors.Is(err, state.ErrNotFound) || err == nil && !sees(who, sb) {
		return nil, notFound(idOrName)
	}
	if err != nil {
		return nil, state.Fault(err)
	}
	return sb, nil
}

// findLive is find without gone ones.
func (s *Service) findLive(ctx context.Context, idOrName string) (*state.Sandbox, error) {
	sb, err := s.find(ctx, idOrName)
	if err != nil {
		return nil, err
	}
	if sb.Status.Gone {
		return nil, notFound(idOrName)
	}
	return sb, nil
}

func notFound(idOrName string) error {
	if idOrName == "" {
		return fault.Field("sandbox", "", "want the id or the name of a sandbox")
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", idOrName).
		With("sandbox_id", idOrName)
}
