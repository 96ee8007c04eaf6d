package webhook

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandbar-dev/sandbar/broker/internal/broadcast"
	"github.com/sandbar-dev/sandbar/broker/seal"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Store is what a Service needs of the broker's state.
type Store interface {
	state.Webhooks
	// Events and EventBounds are those of state.Events.
	Events(ctx context.Context, cursor string, limit int) ([]*brokerv1.Event, string, error)
	EventBounds(ctx context.Context) (oldest, newest string, err error)
}

// Options are the settings of a Service; zero values mean the defaults.
type Options struct {
	// Policy says where messages may go.
	Policy Policy
	// Holder tells this broker from others on the same store. One that nobody else
	// can have goes on at once after a crash; all others wait until what they held is
	// free.
	Holder string
	// Keys seal the secrets that are stored. Nil: they are stored as they are.
	Keys *seal.Keys
	// Changed returns a channel that is closed at the next event of this broker. Nil:
	// events are looked for once a second, as those of other brokers are.
	Changed func() <-chan struct{}
	// Attempted is told of each attempt: ok, refused, timeout, unreachable, forbidden
	// or unsigned. Nil: nobody is.
	Attempted func(ctx context.Context, outcome string, took time.Duration)
	// Version of the broker, for the receivers.
	Version string
	// TLS is for connections to receivers. Nil: the system's certificates.
	TLS *tls.Config
	// Log is where it is told that a webhook fails or is disabled. Nil: nowhere.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() <-chan struct{} { return nil }
	}
	if o.Attempted == nil {
		o.Attempted = func(context.Context, string, time.Duration) {}
	}
	return o
}

// poster posts messages; it is a sender, beside in tests.
type poster interface {
	send(ctx context.Context, w *state.Webhook, m message) attempt
}

// Service is the webhooks of a broker. It is safe for concurrent use.
type Service struct {
	store  Store
	opts   Options
	log    *slog.Logger
	poster poster
	idle   func() // closes connections that are not used

	more  broadcast.Signal // there are events
	poked chan struct{}    // has room for one: a webhook was changed here
	// busy counts webhooks with something to deliver.
	busy atomic.Int64

	end  context.CancelFunc
	done sync.WaitGroup
}

// New returns a service that has begun to deliver. The store must outlive it, and
// the caller closes it.
func New(store Store, opts Options) *Service {
	p := newSender(opts.Policy, opts.Version, opts.TLS)
	return start(store, opts, p, p.client.CloseIdleConnections)
}

func start(store Store, opts Options, p poster, idle func()) *Service {
	opts = opts.withDefaults()
	ctx, end := context.WithCancel(context.Background())
	s := &Service{store: store, opts: opts, log: opts.Log, poster: p, idle: idle, poked: make(chan struct{}, 1), end: end}
	s.done.Go(func() {
		s.reseal(ctx)
		s.dispatch(ctx)
	})
	return s
}

// Close ends deliveries; one that is under way may be repeated by the next broker.
// It lets others deliver.
func (s *Service) Close() {
	s.end()
	s.done.Wait()
	s.idle()
}

// Busy reports whether there is something that this broker has to deliver, now or
// when its time comes.
func (s *Service) Busy() bool { return s.busy.Load() > 0 }

// poke makes the dispatcher look at the webhooks now.
func (s *Service) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// post sends a message once, and counts it.
func (s *Service) post(ctx context.Context, w *state.Webhook, m message) attempt {
	a := s.signed(ctx, w, m)
	if a.outcome != canceled {
		s.opts.Attempted(ctx, a.outcome, a.took)
	}
	return a
}

// signed sends a message, unless its webhook's secret cannot be read.
func (s *Service) signed(ctx context.Context, w *state.Webhook, m message) attempt {
	open, err := s.opened(w)
	if err != nil {
		return attempt{outcome: unsigned, problem: "its secret cannot be read: " + err.Error() + "; make a new one (`sandbar webhook rotate`)"}
	}
	return s.poster.send(ctx, open, m)
}
