package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
)

// Host owns a set of plugins. Start it once; Close ends everything it started.
// All methods are safe for concurrent use.
type Host struct {
	opts    Options
	self    identity
	plugins []*Plugin // in the order of Options.Plugins
	byName  map[string]*Plugin
	watch   subscribers

	startOnce, closeOnce sync.Once
	running              sync.WaitGroup
}

// New returns a host that has not started anything. The error lists everything
// that is wrong with opts.
func New(opts Options) (*Host, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("plugin host: %w", err)
	}
	opts.setDefaults()
	self, err := identify(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("plugin host: %w", err)
	}
	h := &Host{opts: opts, self: self, byName: make(map[string]*Plugin, len(opts.Plugins))}
	for _, c := range opts.Plugins {
		l := &launcher{cfg: c, opts: &h.opts, log: opts.Logger.With("provider", c.Name), host: self}
		p := newPlugin(c.Name, l, &h.opts, h.watch.publish)
		h.plugins = append(h.plugins, p)
		h.byName[c.Name] = p
	}
	return h, nil
}

// Start sweeps what a killed broker left behind and starts all plugins that are
// not lazy, in parallel. It does not wait for them: calls do.
func (h *Host) Start(ctx context.Context) error {
	var err error
	h.startOnce.Do(func() { err = h.start(ctx) })
	return err
}

func (h *Host) start(ctx context.Context) error {
	if err := os.MkdirAll(h.opts.RuntimeDir, 0o700); err != nil {
		return fmt.Errorf("plugin host: make runtime folder: %w", err)
	}
	info, err := os.Stat(h.opts.RuntimeDir)
	if err != nil {
		return fmt.Errorf("plugin host: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("plugin host: runtime folder %s has mode %s: want 0700, since it holds sockets; run chmod 700 on it",
			h.opts.RuntimeDir, info.Mode().Perm())
	}
	if err := sweep(ctx, h.opts.RuntimeDir, h.opts.Logger); err != nil {
		// Leftovers cost memory; not starting would cost everything.
		h.opts.Logger.WarnContext(ctx, "leftovers of an earlier broker could not be swept", "error", err)
	}
	for i, p := range h.plugins {
		h.running.Go(p.run)
		if !h.opts.Plugins[i].Lazy {
			p.post(supervisor.Want{})
		}
	}
	return nil
}

// Plugin returns a configured provider.
func (h *Host) Plugin(name string) (*Plugin, error) {
	p, ok := h.byName[name]
	if !ok {
		return nil, fmt.Errorf("provider %q is not configured", name)
	}
	return p, nil
}

// Plugins returns all configured providers in the order of Options.Plugins.
func (h *Host) Plugins() []*Plugin { return append([]*Plugin(nil), h.plugins...) }

// Close stops all plugins in parallel, each in good order, and returns when
// nothing is left of them. When ctx ends before that, they are killed; the error
// is then ctx's.
func (h *Host) Close(ctx context.Context) error {
	h.closeOnce.Do(func() {
		for _, p := range h.plugins {
			close(p.halt)
		}
	})
	all := make(chan struct{})
	go func() {
		h.running.Wait()
		close(all)
	}()
	var err error
	select {
	case <-all:
	case <-ctx.Done():
		err = context.Cause(ctx)
		for _, p := range h.plugins {
			p.killNow()
		}
		<-all
	}
	h.watch.close()
	if err != nil {
		return errors.Join(errors.New("plugins were killed before they had ended in good order"), err)
	}
	return nil
}
