// The command broker is `sandbar serve` with one addition: from SIGUSR1 on it stands
// still at a chosen write of its state, and says "here", to be killed there.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
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
	at := flag.String("stop", "", "where to stand still: before or after, which write, and the how manieth, such as \"after insert 1\"")
	writes := flag.String("writes", "", "file that takes the writes in their order")
	flag.Parse()
	if err := run(*configFile, *plugins, *at, *writes); err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
}

func run(configFile, plugins, at, writes string) error {
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
	out, err := os.OpenFile(writes, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	s := &stopping{Store: store, at: at, writes: out, n: make(map[string]int)}
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

// stopping is a store that stands still at one write of what is the journal: the
// rows of sandboxes and of snapshots.
type stopping struct {
	state.Store
	at    string
	armed atomic.Bool

	mu sync.Mutex
	// n counts the writes of each kind, since it is armed.
	n      map[string]int
	writes io.Writer
}

func (s *stopping) around(what string, write func() error) error {
	if !s.armed.Load() {
		return write()
	}
	this, err := s.next(what)
	if err != nil {
		return err
	}
	s.stop("before " + this)
	err = write()
	s.stop("after " + this)
	return err
}

// next returns which write this is.
func (s *stopping) next(what string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n[what]++
	this := fmt.Sprintf("%s %d", what, s.n[what])
	_, err := fmt.Fprintln(s.writes, this)
	return this, err
}

func (s *stopping) stop(at string) {
	if s.at == at {
		fmt.Println("here")
		select {}
	}
}

func (s *stopping) InsertSandboxes(ctx context.Context, r *state.Request, rows ...*state.Sandbox) error {
	return s.around("insert", func() error { return s.Store.InsertSandboxes(ctx, r, rows...) })
}

func (s *stopping) UpdateSandbox(ctx context.Context, sb *state.Sandbox) error {
	return s.around("update", func() error { return s.Store.UpdateSandbox(ctx, sb) })
}

func (s *stopping) RemoveSandbox(ctx context.Context, sb *state.Sandbox) error {
	return s.around("remove", func() error { return s.Store.RemoveSandbox(ctx, sb) })
}

func (s *stopping) InsertSnapshot(ctx context.Context, r *state.Request, sn *state.Snapshot) error {
	return s.around("insert-snapshot", func() error { return s.Store.InsertSnapshot(ctx, r, sn) })
}

func (s *stopping) UpdateSnapshot(ctx context.Context, sn *state.Snapshot) error {
	return s.around("update-snapshot", func() error { return s.Store.UpdateSnapshot(ctx, sn) })
}

func (s *stopping) RemoveSnapshot(ctx context.Context, id string) error {
	return s.around("remove-snapshot", func() error { return s.Store.RemoveSnapshot(ctx, id) })
}
