package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/image"
	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Driver implements sdk.Driver.
type Driver struct {
	opts  Options
	log   *slog.Logger
	locks keyedLocks
	shims connections

	mu    sync.RWMutex
	store *record.Store
	conf  config
	warm  *warm // nil: none is kept

	// waits are the goroutines that reap shims this process started.
	waits sync.WaitGroup
}

// config is what Configure set.
type config struct {
	stateDir string
	owner    string
	settings settings
	images   *image.Store
	// agent is the program of guests to come; empty: the provider's own.
	agent string
}

// Options of New.
type Options struct {
	// Version is the plugin's.
	Version string
	// Binary is what sandboxes' processes run: a statically linked one that calls
	// runsc.Dispatch and shim.Main, as cmd/sandbar-provider-local does. Empty:
	// the running one.
	Binary string
	// GuestAgent is the program that is process 1 of guests, made of package
	// guestagent; a state that was saved with it is restored by any build of the
	// provider that has the same gVisor. Empty: Binary, whose states only the very
	// same build restores.
	GuestAgent string
	// Log takes what no caller can be told; nil: nothing is logged.
	Log *slog.Logger
}

// New returns a driver. Close frees what it holds; sandboxes live on.
func New(opts Options) *Driver {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{opts: opts, log: opts.Log}
}

// Close closes connections and the state folder, and ends the warm pool. It does
// not wait for sandboxes: they outlive the plugin.
func (d *Driver) Close() error {
	d.shims.closeAll()
	_ = d.Drain(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store == nil {
		return nil
	}
	err := errors.Join(d.conf.images.Close(), d.store.Close())
	d.store, d.conf.images = nil, nil
	return err
}

// lockBudget is how long Configure waits for a plugin process that is ending to
// leave the state folder.
const lockBudget = 5 * time.Second

// Configure implements sdk.Driver.
func (d *Driver) Configure(ctx context.Context, req *providerv1.ConfigureRequest) error {
	if req.GetStateDir() == "" {
		return fault.Field("state_dir", "", "want the path of a folder")
	}
	set, err := parseSettings(req.GetSettings())
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := config{stateDir: req.GetStateDir(), owner: req.GetOwner(), settings: set}
	if d.store != nil {
		if next.stateDir != d.conf.stateDir {
			return fault.Field("state_dir", next.stateDir, "want "+d.conf.stateDir+": it cannot change while the plugin runs")
		}
		next.images, next.agent = d.conf.images, d.conf.agent
		d.conf = next
		d.rewarm(d.store, next.settings)
		return nil
	}
	if err := runsc.ReserveDescriptors(); err != nil {
		return internal(providerv1.Effect_EFFECT_NONE, "prepare to start sandboxes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockBudget)
	defer cancel()
	store, err := record.Open(ctx, next.stateDir)
	if err != nil {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "state_dir %q: %w", next.stateDir, err).
			With("missing", "state-folder").With("remedy", "make the folder writable, or end the process that serves it")
	}
	if err := store.Sweep(func(string) bool { return false }); err != nil {
		d.log.WarnContext(ctx, "sweep leftovers", "error", err)
	}
	d.sweepMembers(ctx, store)
	if next.agent, err = installAgent(d.opts.GuestAgent, next.stateDir); err != nil {
		return internal(providerv1.Effect_EFFECT_NONE, "%w", errors.Join(err, store.Close()))
	}
	if next.images, err = d.openImages(ctx, next.stateDir, store); err != nil {
		return errors.Join(err, store.Close())
	}
	d.store, d.conf = store, next
	d.rewarm(store, set)
	return nil
}

// open returns the store and the configuration in force.
func (d *Driver) open() (*record.Store, config, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.store == nil {
		return nil, config{}, fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED, "the provider was not configured yet")
	}
	return d.store, d.conf, nil
}

// keyedLocks are mutexes by name, made when needed and dropped when free.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	free  chan struct{} // holds one token while nobody has the lock
	users int
}

// lock waits for the lock of key, and returns what releases it.
func (k *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	unlock = func() { l.free <- struct{}{}; k.release(key, l) }
	select { // a lock that is free is taken, whatever the context says
	case <-l.free:
		return unlock, nil
	default:
	}
	select {
	case <-l.free:
		return unlock, nil
	case <-ctx.Done():
		k.release(key, l)
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
			"another call is changing %q", key).With("object", key).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
}

// tryLock is lock without waiting.
func (k *keyedLocks) tryLock(key string) (unlock func(), ok bool) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k.mu.Lock()
	busy := k.held[key] != nil
	k.mu.Unlock()
	if busy {
		return nil, false
	}
	unlock, err := k.lock(ctx, key)
	return unlock, err == nil
}

func (k *keyedLocks) release(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}

// notFound is the answer about a sandbox that has no record.
func notFound(id string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", id).With("sandbox_id", id)
}

// internal marks an error of this machine, whose effect the caller knows.
func internal(effect providerv1.Effect, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "%w", err).WithEffect(effect)
}

var _ sdk.Driver = (*Driver)(nil)
