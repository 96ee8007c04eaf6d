package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/broker/policy"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Options say what to serve.
type Options struct {
	// Config is the configuration; nil is the default one. StateDir and RuntimeDir
	// of it win over the two below.
	Config *config.Config
	// StateDir holds what must survive, RuntimeDir sockets. Absolute; they are made
	// with mode 0700.
	StateDir, RuntimeDir string
	// PluginDirs are searched for provider binaries after the configuration's.
	PluginDirs []pluginhost.Dir
	// LookupEnv reads the environment for secrets.
	LookupEnv func(string) (string, bool)
	// Proxy chooses how issuers of tokens are reached. Nil: without one.
	Proxy func(*http.Request) (*url.URL, error)
	// Version is the binary's.
	Version string
	// OnDemand is true for a server that nobody asked for by name: it may be
	// stopped by StopServer and ends after IdleExit without use. Zero: never.
	OnDemand bool
	IdleExit time.Duration
	// Log takes the server's words. Nil: nothing is logged.
	Log *slog.Logger
	// Listener, if not nil, is the Unix socket to serve on, made by the caller;
	// Run closes it.
	Listener net.Listener
	// Ready, if not nil, is called once the API answers.
	Ready func() error
	// Store, if not nil, is what the server remembers in, instead of a database in
	// StateDir; Run closes it.
	Store state.Store
	// Fleet replaces the plugin host, for tests of what is above it.
	Fleet Fleet
}

// Fleet is what the server needs of its providers.
type Fleet interface {
	broker.Providers
	// Start begins to start providers; ready is called after each start.
	Start(ctx context.Context, owner string, ready func(name string)) error
	// Describe returns one provider, as users see it.
	Describe(name string) *brokerv1.Provider
	// Settle waits until Describe knows all that it will know of a provider that
	// runs.
	Settle(ctx context.Context, name string)
	// Restart ends a provider's process and waits for a new one.
	Restart(ctx context.Context, name string) error
	// Close ends all of them.
	Close(ctx context.Context) error
}

func (o Options) withDefaults() (Options, error) {
	if o.Config == nil {
		o.Config = config.Default()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = func(string) (string, bool) { return "", false }
	}
	if o.Config.StateDir != "" {
		o.StateDir = o.Config.StateDir
	}
	if o.Config.RuntimeDir != "" {
		o.RuntimeDir = o.Config.RuntimeDir
	}
	for name, dir := range map[string]string{"state": o.StateDir, "runtime": o.RuntimeDir} {
		if !filepath.IsAbs(dir) {
			return o, fmt.Errorf("%s folder is %q: want an absolute path", name, dir)
		}
	}
	return o, nil
}

// Socket returns the path of the socket a server with these options serves on.
func (o Options) Socket() string {
	if o.Config != nil && o.Config.Listen.Unix != "" {
		return o.Config.Listen.Unix
	}
	dir := o.RuntimeDir
	if o.Config != nil && o.Config.RuntimeDir != "" {
		dir = o.Config.RuntimeDir
	}
	return filepath.Join(dir, "api.sock")
}

func (o Options) service() (broker.Options, error) {
	d := o.Config.Defaults
	rules, problems := policy.Compile(o.Config.Placement.Rules)
	if len(problems) > 0 { // of a configuration that was not read from a file
		return broker.Options{}, fmt.Errorf("placement.%w", problems[0])
	}
	out := broker.Options{
		Log: o.Log, Lifetime: d.Lifetime,
		OrphanGrace: o.Config.Reaper.Grace, ReapInterval: o.Config.Reaper.Interval,
		Placement: make(map[string]placement.Policy), Rules: rules,
	}
	for _, p := range o.Config.Providers {
		book, err := p.Price.Book()
		if err != nil {
			return out, fmt.Errorf("provider %q: %w", p.Name, err)
		}
		of := placement.Policy{Weight: placement.DefaultWeight, Labels: p.Labels, Region: p.Region, Book: book, Assumed: p.Assumed.Amounts()}
		if p.Weight != nil {
			of.Weight = *p.Weight
		}
		out.Placement[p.Name] = of
	}
	if d.Idle.Timeout > 0 {
		action := brokerv1.IdleAction_IDLE_ACTION_DELETE
		if d.Idle.Action == "pause" {
			action = brokerv1.IdleAction_IDLE_ACTION_PAUSE
		}
		out.Idle = &brokerv1.Idle{Timeout: durationpb.New(d.Idle.Timeout), Action: action}
	}
	return out, nil
}

// Plugins says where the server finds its plugins and what locks them in. It
// leaves out what only running them takes: settings, secrets, folders.
func (o Options) Plugins() (pluginhost.Options, error) {
	o, err := o.withDefaults()
	if err != nil {
		return pluginhost.Options{}, err
	}
	out := pluginhost.Options{LockFile: filepath.Join(o.StateDir, "plugins.lock")}
	for _, dir := range o.Config.PluginDirs {
		out.Dirs = append(out.Dirs, pluginhost.Dir{Path: dir})
	}
	out.Dirs = append(out.Dirs, o.PluginDirs...)
	for _, p := range o.Config.Providers {
		out.Plugins = append(out.Plugins, pluginhost.Config{Name: p.Name, Binary: p.Binary})
	}
	return out, nil
}

// host turns the configuration into what the plugin host runs.
func (o Options) host() (pluginhost.Options, error) {
	out, err := o.Plugins()
	if err != nil {
		return out, err
	}
	out.RuntimeDir, out.StateDir, out.Logger = filepath.Join(o.RuntimeDir, "p"), filepath.Join(o.StateDir, "plugins"), o.Log
	var errs []error
	for i, p := range o.Config.Providers {
		settings, err := structpb.NewStruct(p.Settings)
		if err != nil {
			errs = append(errs, fmt.Errorf("settings of provider %q: %w", p.Name, err))
		}
		secrets, err := p.SecretValues(o.LookupEnv)
		if err != nil {
			errs = append(errs, err)
		}
		out.Plugins[i].Settings, out.Plugins[i].Secrets = settings, secrets
	}
	return out, errors.Join(errs...)
}
