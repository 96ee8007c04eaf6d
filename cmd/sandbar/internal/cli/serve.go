package cli

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
)

// Server runs a broker until the context ends or it stops by itself. It calls
// Ready once it answers.
type Server func(context.Context, ServerOptions) error

// ServerOptions are what the command line says about a broker.
type ServerOptions struct {
	// ConfigFile is the path of the configuration; empty: the built-in one.
	ConfigFile string
	// Tenure is set for the user's own broker, which listens on its socket.
	Tenure *daemon.Tenure
	// StateDir is where a user's own broker keeps its state.
	StateDir string
	// OnDemand is set when a CLI started it; it then stops after IdleExit
	// without use.
	OnDemand bool
	IdleExit time.Duration
	// Version is the version of the binary.
	Version string
	// Getenv reads the environment.
	Getenv func(string) string
	// Log takes the broker's log.
	Log *slog.Logger
	// Ready tells whoever waits that the broker answers.
	Ready func() error
}

type serveCmd struct {
	Config   string         `short:"c" help:"Configuration file." type:"path" env:"SANDBAR_CONFIG" placeholder:"FILE"`
	OnDemand bool           `help:"Stop after --idle-exit without use; the CLI starts a broker so." `
	IdleExit value.Duration `help:"With --on-demand: how long without use." default:"15m" placeholder:"TIME"`
	LogLevel slog.Level     `help:"Least important level to log: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	ReadyFD  int            `name:"ready-fd" default:"-1" hidden:"" help:"Descriptor on which to say that the broker answers."`
}

// Run runs a broker in the foreground until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	ready, err := daemon.AdoptReady(c.ReadyFD)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	place, err := daemon.Locate(a.getenv)
	if err != nil {
		return err
	}
	o := ServerOptions{
		ConfigFile: c.Config, StateDir: place.StateDir, OnDemand: c.OnDemand, IdleExit: time.Duration(c.IdleExit),
		Version: version(), Getenv: a.getenv, Log: log, Ready: ready.Say,
	}
	tenure, err := daemon.Claim(place)
	if err != nil {
		return err
	}
	o.Tenure = tenure
	if err := tenure.Announce(version(), a.now()); err != nil {
		_ = tenure.Close()
		return err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("socket", place.Socket()), slog.Int("pid", os.Getpid()))
	err = a.serve(ctx, o)
	if cerr := tenure.Close(); err == nil {
		err = cerr
	}
	if ctx.Err() != nil {
		// A broker that was asked to end and did has not failed.
		log.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "stopped", slog.Int("pid", os.Getpid()))
		return nil
	}
	return err
}
