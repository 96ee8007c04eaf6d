package serving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/cli"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// Broker serves with Run, which is server.Run outside of tests.
type Broker struct {
	Run func(context.Context, server.Options) error
}

var _ cli.Broker = Broker{}

// Serve implements cli.Broker.
func (b Broker) Serve(ctx context.Context, c cli.BrokerCall) error {
	ready, err := daemon.AdoptReady(c.ReadyFD)
	if err != nil {
		return err
	}
	place, cfg, err := configuration(c)
	if err != nil {
		return err
	}
	if t := &cfg.Telemetry.Traces; t.Endpoint == "" && !c.OnDemand {
		t.Endpoint = c.Getenv(tracing.EnvEndpoint)
	}
	if c.OnDemand {
		// It comes and goes as it is needed, so there is nothing for a scraper either.
		cfg.Listen, cfg.Telemetry.Prometheus = config.Listen{}, config.Prometheus{}
	}
	o, err := options(c, place, cfg)
	if err != nil {
		return err
	}
	o.OnDemand, o.IdleExit = c.OnDemand, c.IdleExit
	if cfg.Listen.Unix != "" {
		return b.Run(ctx, o) // its own socket, which is nobody's default
	}
	cfg.Listen.Unix = place.Socket()
	return b.serveOwn(ctx, c, place, ready, o)
}

// serveOwn serves the user's own socket.
func (b Broker) serveOwn(ctx context.Context, c cli.BrokerCall, place daemon.Place, ready *daemon.Ready, o server.Options) (err error) {
	tenure, err := daemon.Claim(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tenure.Close()) }()
	if err := tenure.Announce(c.Version, c.Now()); err != nil {
		return err
	}
	o.Ready = ready.Say
	return b.Run(ctx, o)
}

// Plugins implements cli.Broker.
func (Broker) Plugins(c cli.BrokerCall) (pluginhost.Options, error) {
	place, cfg, err := configuration(c)
	if err != nil {
		return pluginhost.Options{}, err
	}
	o, err := options(c, place, cfg)
	if err != nil {
		return pluginhost.Options{}, err
	}
	return o.Plugins()
}

// configuration finds and reads the configuration; a file that was named must
// exist.
func configuration(c cli.BrokerCall) (daemon.Place, *config.Config, error) {
	place, err := daemon.Locate(c.Getenv)
	if err != nil {
		return place, nil, err
	}
	if c.Config != "" {
		cfg, err := config.Load(c.Config)
		return place, cfg, err
	}
	cfg, err := config.Load(place.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return place, config.Default(), nil
	}
	return place, cfg, err
}

func options(c cli.BrokerCall, place daemon.Place, cfg *config.Config) (server.Options, error) {
	dir, err := daemon.OwnFolder()
	if err != nil {
		return server.Options{}, err
	}
	var level slog.Level
	if cfg.Log.Level != "" {
		if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
			return server.Options{}, fmt.Errorf("log.level: %w", err)
		}
	}
	ho := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(c.Stderr, ho)
	if cfg.Log.Format == "json" {
		h = slog.NewJSONHandler(c.Stderr, ho)
	}
	return server.Options{
		Config: cfg, StateDir: place.StateDir, RuntimeDir: place.Dir, Version: c.Version, LookupEnv: c.LookupEnv, Log: slog.New(h),
		Proxy: http.ProxyFromEnvironment,
		// Whoever can write beside the executable can replace it, so what lies
		// there needs no lock.
		PluginDirs: []pluginhost.Dir{{Path: dir, Trust: pluginhost.TrustLocation}},
	}, nil
}
