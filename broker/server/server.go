package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/api"
	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/broker/webhook"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// shutdownGrace is how long calls under way may take when the server ends; what
// is cut short is settled by the next one.
const shutdownGrace = 10 * time.Second

// server is one running server.
type server struct {
	opts     Options
	fleet    Fleet
	store    state.Store
	service  *broker.Service
	access   *authn.Directory
	webhooks *webhook.Service
	activity activity
	observed *observed
	started  time.Time

	stopOnce sync.Once
	stop     chan struct{}
	// lost says that another broker has the database.
	lost chan error
}

// Run serves until ctx ends, StopServer is called, or nobody needs an on-demand
// server any more; then it ends everything it started and returns nil. ErrRunning
// if another server has the state folder.
func Run(ctx context.Context, opts Options) (err error) {
	if opts.Store != nil {
		defer func() { err = errors.Join(err, opts.Store.Close()) }()
	}
	opts, err = opts.withDefaults()
	if err != nil {
		return err
	}
	opts.Log = slog.New(telemetry.LogHandler(opts.Log.Handler()))
	for _, dir := range []string{opts.StateDir, opts.RuntimeDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	held, err := lock(ctx, opts.StateDir, opts.Socket())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	s := &server{opts: opts, fleet: opts.Fleet, store: opts.Store, started: time.Now(), stop: make(chan struct{}), lost: make(chan error, 1)}
	s.activity.last = s.started
	if s.observed, err = observe(ctx, opts); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.observed.close(context.WithoutCancel(ctx))) }()
	if s.fleet == nil {
		hostOpts, err := opts.host()
		if err != nil {
			return err
		}
		s.observed.plugins(&hostOpts)
		s.fleet = newHosted(hostOpts, opts.Config.DefaultProvider(), s.observed.metrics)
	}
	if s.store == nil {
		if s.store, err = s.openStore(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.store.Close()) }()
	}
	return s.run(ctx)
}

// run starts providers before the service, which asks them at once, and the
// listeners last, because they mean readiness. It ends them the other way round.
func (s *server) run(ctx context.Context) (err error) {
	owner, err := s.store.Owner(ctx)
	if err != nil {
		return err
	}
	serviceOpts, err := s.opts.service()
	if err != nil {
		return err
	}
	made := make(chan struct{})
	ready := func(name string) {
		<-made
		if s.service != nil {
			s.service.ProviderReady(name)
		}
	}
	defer func() { err = errors.Join(err, s.closeFleet(ctx)) }()
	if err := s.fleet.Start(ctx, owner, ready); err != nil {
		close(made)
		return err
	}
	serviceOpts.Metrics = s.observed.metrics
	s.service, err = broker.New(ctx, s.store, s.fleet, serviceOpts)
	close(made)
	if err != nil {
		return err
	}
	s.access = authn.NewDirectory(s.store, s.service, s.opts.Log)
	defer s.access.Close()
	if err := s.access.EnsureTenants(ctx, s.opts.Config.Tenants()...); err != nil {
		s.closeService(ctx)
		return err
	}
	if s.webhooks, err = s.deliver(owner); err != nil {
		s.closeService(ctx)
		return err
	}
	defer s.webhooks.Close()
	return s.serve(ctx)
}

func (s *server) closeFleet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	return s.fleet.Close(ctx)
}

// serve runs the listeners until something ends the server.
func (s *server) serve(ctx context.Context) error {
	err := s.observed.watch(s)
	var servers []listening
	if err == nil {
		servers, err = s.listen(ctx)
	}
	if err != nil {
		s.closeService(ctx)
		return err
	}
	failed := make(chan error, len(servers))
	var running sync.WaitGroup
	for _, sv := range servers {
		running.Go(func() {
			if err := sv.http.Serve(sv.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", sv.listener.Addr(), err)
			}
		})
	}
	s.opts.Log.InfoContext(ctx, "server is ready", "socket", s.opts.Socket(), "version", s.opts.Version, "owner", s.service.Owner())
	if s.opts.Ready != nil {
		err = s.opts.Ready()
	}
	if err == nil {
		err = s.wait(ctx, failed)
	}
	err = errors.Join(err, s.shutdown(ctx, servers))
	running.Wait()
	return err
}

// listening is one listener and what answers there.
type listening struct {
	listener net.Listener
	http     *http.Server
}

// listen opens the socket last: it says that the server is ready.
func (s *server) listen(ctx context.Context) (out []listening, err error) {
	defer func() {
		for _, o := range out {
			if err != nil {
				err = errors.Join(err, o.listener.Close())
			}
		}
	}()
	if out, err = s.observed.listen(ctx, s.opts); err != nil {
		return nil, err
	}
	if s.opts.Config.Listen.TCP != "" {
		auth, err := s.authenticator()
		if err != nil {
			return out, err
		}
		l, err := listenTCP(ctx, s.opts.Config.Listen)
		if err != nil {
			return out, err
		}
		s.opts.Log.InfoContext(ctx, "serving over TCP", "address", l.Addr().String())
		out = append(out, listening{l, s.httpServer(auth)})
	}
	l, err := listenUnix(ctx, s.opts.Socket())
	if err != nil {
		return out, err
	}
	return append(out, listening{l, s.httpServer(sameUser)}), nil
}

func (s *server) httpServer(auth api.Authenticator) *http.Server {
	h := api.New(s.service, admin{s}, api.Options{
		Auth: auth, Access: s.access, Webhooks: s.webhooks, Log: s.opts.Log, Metrics: s.observed.metrics, Tracer: s.observed.tracer,
	})
	return newHTTP(s.activity.counted(h), &slogErrors{s.opts.Log})
}

// wait returns when the server is to end.
func (s *server) wait(ctx context.Context, failed <-chan error) error {
	var idle <-chan time.Time
	timer := time.NewTimer(s.opts.IdleExit)
	defer timer.Stop()
	if s.opts.OnDemand && s.opts.IdleExit > 0 {
		idle = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stop:
			return nil
		case err := <-failed:
			return err
		case err := <-s.lost:
			return err
		case <-idle:
			rest := s.untilIdle(ctx)
			if rest <= 0 {
				s.opts.Log.InfoContext(ctx, "nobody needs this server, it ends", "idle_exit", s.opts.IdleExit)
				return nil
			}
			timer.Reset(rest)
		}
	}
}

// untilIdle returns how long the server is needed at least; zero if it is not.
func (s *server) untilIdle(ctx context.Context) time.Duration {
	since, idle := s.activity.idleSince()
	if !idle {
		return s.opts.IdleExit
	}
	if rest := s.opts.IdleExit - time.Since(since); rest > 0 {
		return rest
	}
	if s.webhooks.Busy() {
		return s.opts.IdleExit
	}
	needed, err := s.service.Needed(ctx)
	if err != nil {
		s.opts.Log.WarnContext(ctx, "whether the server is needed cannot be told", "error", err)
	}
	if needed || err != nil {
		return s.opts.IdleExit
	}
	return 0
}

// shutdown stops accepting, which also removes the socket, lets calls end for a
// while and then cuts them.
func (s *server) shutdown(ctx context.Context, servers []listening) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	s.service.EndWatches() // they would never end by themselves
	var all sync.WaitGroup
	errs := make([]error, len(servers))
	for i, sv := range servers {
		all.Go(func() {
			if err := sv.http.Shutdown(ctx); err != nil {
				errs[i] = sv.http.Close()
			}
		})
	}
	all.Wait()
	s.service.Close(ctx)
	return errors.Join(errs...)
}

func (s *server) closeService(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	s.service.Close(ctx)
}

// admin answers AdminService.
type admin struct{ s *server }

var _ api.Admin = admin{}

func (a admin) Server() *brokerv1.GetServerResponse {
	out := &brokerv1.GetServerResponse{
		Version: a.s.opts.Version, Pid: int32(os.Getpid()),
		StartedAt: timestamppb.New(a.s.started), OnDemand: a.s.opts.OnDemand, Owner: a.s.service.Owner(),
	}
	if a.s.opts.OnDemand && a.s.opts.IdleExit > 0 {
		out.IdleExit = durationpb.New(a.s.opts.IdleExit)
	}
	return out
}

func (a admin) Stop() error {
	if !a.s.opts.OnDemand {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED,
			"this server was not started on demand: stop it where it was started (process %d)", os.Getpid())
	}
	a.s.stopOnce.Do(func() { close(a.s.stop) })
	return nil
}

func (a admin) Providers() []*brokerv1.Provider {
	var out []*brokerv1.Provider
	for _, name := range a.s.fleet.Names() {
		out = append(out, a.s.fleet.Describe(name))
	}
	return out
}

func (a admin) Probe(ctx context.Context, name string) (*providerv1.ProbeResponse, error) {
	resp, err := a.s.service.ProbeProvider(ctx, name)
	a.s.fleet.Settle(ctx, name) // whoever probes a provider looks at it next
	return resp, err
}

func (a admin) Restart(ctx context.Context, name string) (*brokerv1.Provider, error) {
	if _, ok := a.s.fleet.Provider(name); !ok {
		return nil, a.s.service.NotConfigured(name)
	}
	if err := a.s.fleet.Restart(ctx, name); err != nil {
		return nil, err
	}
	return a.s.fleet.Describe(name), nil
}
