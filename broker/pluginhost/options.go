package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/broker/pluginhost/supervisor"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Options configure a Host.
type Options struct {
	// Dirs are searched for binaries, in order; the first that has one wins.
	// $PATH is never searched.
	Dirs []Dir
	// Plugins are the providers to run. A binary that is not listed is not run.
	Plugins []Config
	// LockFile records the digests of binaries; see Lock. It need not exist.
	LockFile string
	// RuntimeDir holds sockets and process records, of mode 0700; it is made if
	// missing. Keep it short: the path of a Unix socket has at most 100 bytes
	// here, of which this may use MaxRuntimeDir.
	RuntimeDir string
	// StateDir holds a folder for each plugin that outlives it.
	StateDir string
	// Owner is the broker's id, which plugins store on what they make.
	Owner string
	// Logger takes the host's words and the plugins'. Nil: nothing is logged.
	Logger *slog.Logger
	// OnReady is called after each start of a plugin, when calls already go
	// through, in a goroutine that Close waits for; ctx ends when that process
	// does. It is the place to run Recover. Calls of users need not wait for it:
	// each carries the handle it needs.
	OnReady func(ctx context.Context, plugin *Plugin, generation uint64)
	// StartBudget bounds handshake, Describe, Configure and Probe together.
	// 0: 10 s.
	StartBudget time.Duration
	// DrainGrace is how long calls in flight may take when a plugin is stopped in
	// good order. 0: 5 s.
	DrainGrace time.Duration
	// Limits are the supervision policy. Zero: supervisor.Defaults().
	Limits supervisor.Limits
	// DialOptions are added to each connection, for tracing and the like.
	DialOptions []grpc.DialOption
}

// Config is one provider to run.
type Config struct {
	// Name finds the binary sandbar-provider-<name>.
	Name string
	// Binary is an explicit path instead; it is trusted as Trust says.
	Binary string
	Trust  Trust
	// Args are given to the binary.
	Args []string
	// Env is added to the plugin's otherwise empty environment. Secrets belong
	// in Secrets.
	Env map[string]string
	// Settings and Secrets are passed by Configure.
	Settings *structpb.Struct
	Secrets  map[string][]byte
	// Lazy starts the process at the first call instead of with the host.
	Lazy bool
}

// Numbers of supervision that belong to processes rather than to the policy.
const (
	defaultStartBudget = 10 * time.Second
	defaultDrainGrace  = 5 * time.Second
	// killGrace is how long a plugin may take to end by itself.
	killGrace = 2 * time.Second
	// probeDeadline bounds a probe outside the start budget.
	probeDeadline = 10 * time.Second
)

func (o *Options) validate() error {
	var errs []error
	if !filepath.IsAbs(o.RuntimeDir) {
		errs = append(errs, fmt.Errorf("runtime folder is %q: want an absolute path", o.RuntimeDir))
	}
	if !filepath.IsAbs(o.StateDir) {
		errs = append(errs, fmt.Errorf("state folder is %q: want an absolute path", o.StateDir))
	}
	if len(o.RuntimeDir) > MaxRuntimeDir {
		errs = append(errs, fmt.Errorf("runtime folder %q has %d bytes: sockets below it would not fit into a socket address, want at most %d; choose a shorter one",
			o.RuntimeDir, len(o.RuntimeDir), MaxRuntimeDir))
	}
	seen := map[string]bool{}
	for _, c := range o.Plugins {
		switch {
		case !handshake.ValidName(c.Name):
			errs = append(errs, fmt.Errorf("provider name is %q: want %s", c.Name, handshake.NamePattern))
		case seen[c.Name]:
			errs = append(errs, fmt.Errorf("provider %q is configured twice", c.Name))
		}
		seen[c.Name] = true
	}
	return errors.Join(errs...)
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StartBudget == 0 {
		o.StartBudget = defaultStartBudget
	}
	if o.DrainGrace == 0 {
		o.DrainGrace = defaultDrainGrace
	}
	if o.Limits == (supervisor.Limits{}) {
		o.Limits = supervisor.Defaults()
	}
}
