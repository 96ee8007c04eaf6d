package sdk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// deniedDir is where denied keys are kept in the plugin's state folder: an
	// empty file each, named by the key, as old as the denial.
	deniedDir = ".sandbar/denied-keys"
	// deniedFor is how long a key is honoured that made nothing (REQ-IDEM-004).
	deniedFor = 24 * time.Hour
	// deniedSweep is how often those that need not be honoured any more go.
	deniedSweep = time.Hour
)

// denied is the half of REQ-IDEM-003 that needs nothing of the vendor: a key of
// which GetSandbox said that it made nothing makes nothing from then on, whether
// the request with it is under way to this process or comes to a later one.
// That no earlier process has left a request under way at the vendor is for the
// driver to know.
type denied struct {
	mu    sync.Mutex
	dir   string // "" without a state folder
	keys  map[string]time.Time
	swept time.Time
	uses  map[string]*keyUse
}

// keyUse is a key for as long as calls with it are under way.
type keyUse struct {
	calls int
	// makers are the calls that may make something; begun is how many there were.
	makers, begun int
	// idle is closed while there are no makers.
	idle chan struct{}
}

func (d *denied) init() {
	d.keys, d.uses, d.swept = make(map[string]time.Time), make(map[string]*keyUse), time.Now()
}

// open goes on with what earlier processes denied. Without a state folder
// nothing outlives this one.
func (d *denied) open(state string) error {
	if state == "" {
		return nil
	}
	dir := filepath.Join(state, deniedDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Field("state_dir", state, "want a folder that is the plugin's own: "+err.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dir = dir
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			d.keys[e.Name()] = info.ModTime()
		}
	}
	d.sweep()
	return nil
}

// sweep forgets what is too old. The caller holds mu.
func (d *denied) sweep() {
	d.swept = time.Now()
	for key, since := range d.keys {
		if d.swept.Sub(since) < deniedFor {
			continue
		}
		delete(d.keys, key)
		if d.dir != "" {
			_ = os.Remove(filepath.Join(d.dir, key)) // the next process tries again
		}
	}
}

// guard runs a call: one that may make something is refused under a denied key,
// and the answer that a key made nothing denies the key.
func (d *denied) guard(ctx context.Context, req any, call grpc.UnaryHandler) (any, error) {
	switch r := req.(type) {
	case *providerv1.GetSandboxRequest:
		if key := r.GetIdempotencyKey(); key != "" {
			use := d.begin(key)
			defer d.end(key, use)
			return d.ask(ctx, key, use, func() (any, error) { return call(ctx, req) })
		}
	case interface{ GetOperation() *providerv1.Operation }:
		key := r.GetOperation().GetIdempotencyKey()
		use := d.begin(key)
		defer d.end(key, use)
		if err := d.beginMaking(key, use); err != nil {
			return nil, err
		}
		defer d.endMaking(use)
	}
	return call(ctx, req)
}

func (d *denied) begin(key string) *keyUse {
	d.mu.Lock()
	defer d.mu.Unlock()
	use := d.uses[key]
	if use == nil {
		use = &keyUse{idle: make(chan struct{})}
		close(use.idle)
		d.uses[key] = use
	}
	use.calls++
	return use
}

func (d *denied) end(key string, use *keyUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if use.calls--; use.calls == 0 {
		delete(d.uses, key)
	}
}

func (d *denied) beginMaking(key string, use *keyUse) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if since, ok := d.keys[key]; ok && time.Since(since) < deniedFor {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"idempotency key %q was settled as unused before this request came: use a new key", key).With("idempotency_key", key)
	}
	use.begun++
	if use.makers++; use.makers == 1 {
		use.idle = make(chan struct{})
	}
	return nil
}

func (d *denied) endMaking(use *keyUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if use.makers--; use.makers == 0 {
		close(use.idle)
	}
}

// ask passes on what the driver says that a key made. That it made nothing is no
// answer while a call is making something: ask waits for its end and asks again.
func (d *denied) ask(ctx context.Context, key string, use *keyUse, call func() (any, error)) (any, error) {
	for {
		d.mu.Lock()
		begun, quiet := use.begun, use.makers == 0
		d.mu.Unlock()
		resp, err := call()
		if e := carried(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND {
			return resp, err
		}
		wait, failed := d.deny(key, use, quiet, begun)
		if failed != nil {
			return nil, fmt.Errorf("note that idempotency key %q made nothing: %w", key, failed)
		}
		if wait == nil {
			return resp, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
				"a request with idempotency key %q is under way: whether it makes anything is not known yet", key).
				With("idempotency_key", key).WithEffect(providerv1.Effect_EFFECT_NONE)
		}
	}
}

// deny notes that a key made nothing, if no call has been at it since it was
// quiet; otherwise it returns what to wait for.
func (d *denied) deny(key string, use *keyUse, quiet bool, begun int) (wait <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !quiet || use.begun != begun {
		return use.idle, nil
	}
	if time.Since(d.swept) > deniedSweep {
		d.sweep()
	}
	if _, known := d.keys[key]; known {
		return nil, nil
	}
	if d.dir != "" {
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(d.dir, key), nil, 0o600); err != nil {
			return nil, err
		}
	}
	d.keys[key] = time.Now()
	return nil, nil
}
