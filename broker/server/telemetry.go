package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/broker/telemetry/export"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// observed is what the server lets others know of itself.
type observed struct {
	// metrics is never nil.
	metrics    *telemetry.Metrics
	prometheus *export.Prometheus
	stop       func() error
	// tracer is nil if nothing is traced.
	tracer *tracing.Tracer
	log    *slog.Logger
}

// observe begins to keep what the configuration says.
func observe(ctx context.Context, opts Options) (*observed, error) {
	o, c := &observed{metrics: telemetry.Discard(), log: opts.Log}, opts.Config.Telemetry
	if c.Prometheus.Listen != "" {
		p, err := export.NewPrometheus()
		if err != nil {
			return nil, err
		}
		o.metrics, o.prometheus = p.Metrics, p
	}
	if c.Traces.Endpoint == "" {
		return o, nil
	}
	share := 1.0
	if c.Traces.Sample != nil {
		share = float64(*c.Traces.Sample) / 100
	}
	var err error
	o.tracer, err = tracing.New(ctx, tracing.Options{Service: "sandbar", Version: opts.Version, Endpoint: c.Traces.Endpoint, Sample: share})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry.traces.endpoint: %w", err), o.close(ctx))
	}
	return o, nil
}

// plugins makes the calls to plugins, and what those do, part of the traces.
func (o *observed) plugins(opts *pluginhost.Options) {
	if o.tracer == nil {
		return
	}
	opts.DialOptions = append(opts.DialOptions, o.tracer.DialOptions()...)
	for i := range opts.Plugins {
		p := &opts.Plugins[i]
		if p.Env == nil {
			p.Env = make(map[string]string)
		}
		p.Env[tracing.EnvEndpoint] = o.tracer.Endpoint()
	}
}

// watch makes a scrape look at the service and the plugins, until close.
func (o *observed) watch(s *server) (err error) {
	o.stop, err = o.metrics.Observe(func(ctx context.Context) (telemetry.Observation, error) {
		seen, err := s.service.Observe(ctx)
		seen.Version = s.opts.Version
		for _, name := range s.fleet.Names() {
			d := s.fleet.Describe(name)
			seen.Plugins = append(seen.Plugins, telemetry.Plugin{
				Provider: name, State: telemetry.PluginState(d.GetState()), Starts: int(d.GetStarts()),
			})
		}
		return seen, err
	})
	return err
}

// close ends the keeping. The service must be closed after the watch ended and
// before the metrics are.
func (o *observed) close(ctx context.Context) error {
	var errs []error
	if o.stop != nil {
		errs = append(errs, o.stop())
	}
	if o.prometheus != nil {
		errs = append(errs, o.prometheus.Close(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, lastSpans)
	defer cancel()
	if err := o.tracer.Shutdown(ctx); err != nil {
		o.log.WarnContext(ctx, "spans are lost", "error", err)
	}
	return errors.Join(errs...)
}

// lastSpans bounds how long a broker that ends tries to send what it traced last.
const lastSpans = 3 * time.Second

// scrapeTimeout bounds what a scraper may take to ask and to be answered.
const scrapeTimeout = 30 * time.Second

// listen serves the metrics, if they are kept.
func (o *observed) listen(ctx context.Context, opts Options) ([]listening, error) {
	if o.prometheus == nil {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", opts.Config.Telemetry.Prometheus.Listen)
	if err != nil {
		return nil, fmt.Errorf("telemetry.prometheus.listen: %w", err)
	}
	opts.Log.InfoContext(ctx, "serving metrics", "address", l.Addr().String())
	return []listening{{l, &http.Server{
		Handler: o.prometheus.Handler(opts.Log), ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: (&slogErrors{opts.Log}).logger(),
	}}}, nil
}
