// The command broker is `sandbar serve` with one addition: from SIGUSR1 on it stands
// still at a chosen write of its state, and says "here", to be killed there.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
)

func main() {
	configFile := flag.String("config", "", "configuration of the broker")
	plugins := flag.String("plugins", "", "folder of the providers' binaries")
	at := flag.String("stop", "", "where to stand still: before or after, insert, update or remove, and the how manieth")
	flag.Parse()
	if err := run(*configFile, *plugins, *at); err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
}

func run(configFile, plugins, at string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(configFile)
	if err != nil {
		return err
	}
	store, err := open(ctx, cfg.StateDir)
	if err != nil {
		return err
	}
	s := &stopping{Store: store, at: at}
	arm := make(chan os.Signal, 1)
	signal.Notify(arm, syscall.SIGUSR1)
	go func() {
		for range arm {
			s.armed.Store(true)
			fmt.Println("armed")
		}
	}()
	return server.Run(ctx, server.Options{
		Config: cfg, Store: s, Version: "exactly-once", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		PluginDirs: []pluginhost.Dir{{Path: plugins, Trust: pluginhost.TrustLocation}},
		Ready:      func() error { fmt.Println("ready"); return nil },
	})
}

func open(ctx context.Context, dir string) (state.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, filepath.Join(dir, "state.db"))
}

// stopping is a store that stands still at one write.
type stopping struct {
	state.Store
	at                       string
	armed                    atomic.Bool
	inserts, updates, remove atomic.Int64
}

func (s *stopping) around(what string, n *atomic.Int64, write func() error) error {
	if !s.armed.Load() {
		return write()
	}
	i := n.Add(1)
	s.stop(fmt.Sprintf("before %s %d", what, i))
	err := write()
	s.stop(fmt.Sprintf("after %s %d", what, i))
	return err
}

func (s *stopping) stop(at string) {
	if s.at == at {
		fmt.Println("here")
		select {}
	}
}

func (s *stopping) InsertSandboxes(ctx context.Context, r *state.Request, rows ...*state.Sandbox) error {
	return s.around("insert", &s.inserts, func() error { return s.Store.InsertSandboxes(ctx, r, rows...) })
}

func (s *stopping) UpdateSandbox(ctx context.Context, sb *state.Sandbox) error {
	return s.around("update", &s.updates, func() error { return s.Store.UpdateSandbox(ctx, sb) })
}

func (s *stopping) RemoveSandbox(ctx context.Context, sb *state.Sandbox) error {
	return s.around("remove", &s.remove, func() error { return s.Store.RemoveSandbox(ctx, sb) })
}
