package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// Server runs a broker until the context ends or the broker ends by itself.
type Server func(context.Context, server.Options) error

// RunBroker is the Server of the real command.
func RunBroker(ctx context.Context, o server.Options) error { return server.Run(ctx, o) }

type serveCmd struct {
	Config   string         `short:"c" help:"Configuration file; default: sandbar/config.yaml in your configuration folder, if there is one." type:"path" env:"SANDBAR_CONFIG" placeholder:"FILE"`
	OnDemand bool           `help:"Serve your own socket only, and stop after --idle-exit without use; the CLI starts a broker so."`
	IdleExit value.Duration `help:"With --on-demand: how long without use." default:"15m" placeholder:"TIME"`
	ReadyFD  int            `name:"ready-fd" default:"-1" hidden:"" help:"Descriptor on which to say that the broker answers."`
}

// Help is shown below the flags.
func (*serveCmd) Help() string {
	return "Without listen.unix in the configuration it serves the socket that your own commands use."
}

// Run runs a broker in the foreground until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	ready, err := daemon.AdoptReady(c.ReadyFD)
	if err != nil {
		return err
	}
	place, cfg, err := a.configuration(c.Config)
	if err != nil {
		return err
	}
	if t := &cfg.Telemetry.Traces; t.Endpoint == "" && !c.OnDemand {
		t.Endpoint = a.getenv(tracing.EnvEndpoint)
	}
	if c.OnDemand {
		// It comes and goes as it is needed, so there is nothing for a scraper either.
		cfg.Listen, cfg.Telemetry.Prometheus = config.Listen{}, config.Prometheus{}
	}
	o, err := a.serverOptions(place, cfg)
	if err != nil {
		return err
	}
	o.OnDemand, o.IdleExit = c.OnDemand, time.Duration(c.IdleExit)
	if cfg.Listen.Unix != "" {
		return a.serve(ctx, o) // its own socket, which is nobody's default
	}
	cfg.Listen.Unix = place.Socket()
	return a.serveOwn(ctx, place, ready, o)
}

// serveOwn serves the user's own socket.
func (a *app) serveOwn(ctx context.Context, place daemon.Place, ready *daemon.Ready, o server.Options) (err error) {
	tenure, err := daemon.Claim(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tenure.Close()) }()
	if err := tenure.Announce(a.version, a.now()); err != nil {
		return err
	}
	o.Ready = ready.Say
	return a.serve(ctx, o)
}

// configuration finds and reads the configuration; a file that was named must
// exist.
func (a *app) configuration(file string) (daemon.Place, *config.Config, error) {
	place, err := daemon.Locate(a.getenv)
	if err != nil {
		return place, nil, err
	}
	if file != "" {
		cfg, err := config.Load(file)
		return place, cfg, err
	}
	cfg, err := config.Load(place.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return place, config.Default(), nil
	}
	return place, cfg, err
}

func (a *app) serverOptions(place daemon.Place, cfg *config.Config) (server.Options, error) {
	dir, err := ownFolder()
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
	var h slog.Handler = slog.NewTextHandler(a.stderr, ho)
	if cfg.Log.Format == "json" {
		h = slog.NewJSONHandler(a.stderr, ho)
	}
	return server.Options{
		Config: cfg, StateDir: place.StateDir, RuntimeDir: place.Dir, Version: a.version, LookupEnv: a.lookupEnv, Log: slog.New(h),
		Proxy: http.ProxyFromEnvironment,
		// Whoever can write beside the executable can replace it, so what lies
		// there needs no lock.
		PluginDirs: []pluginhost.Dir{{Path: dir, Trust: pluginhost.TrustLocation}},
	}, nil
}

// ownFolder is where the executable really is.
func ownFolder() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", fmt.Errorf("find our own executable: %w", err)
	}
	return filepath.Dir(exe), nil
}
