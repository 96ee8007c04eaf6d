package authn

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// watches are the calls that are open for long, by what they depend on.
type watches struct {
	mu sync.Mutex
	on map[subject]map[*watch]struct{}
}

// subject is a key or a tenant.
type subject struct{ key, tenant string }

type watch struct{ cancel context.CancelCauseFunc }

// Watch returns a context that ends when the caller's credential does, with the
// reason as its cause. stop must be called.
func (d *Directory) Watch(ctx context.Context, p authz.Principal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{cancel}
	endTimer := func() bool { return false }
	if !p.Expires.IsZero() {
		// No deadline: the provider would be told it, and its own end of the call could
		// come first and without the reason.
		endTimer = time.AfterFunc(time.Until(p.Expires), func() { cancel(expired(p.String(), p.Expires)) }).Stop
	}
	on := subject{tenant: p.Tenant}
	if p.Kind == brokerv1.CallerKind_CALLER_KIND_API_KEY && KeyID(p.ID+"_") != "" {
		on = subject{key: p.ID}
	}
	d.watches.add(on, w)
	return ctx, func() { d.watches.drop(on, w); endTimer(); cancel(nil) }
}

func (w *watches) add(on subject, one *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on == nil {
		w.on = make(map[subject]map[*watch]struct{})
	}
	if w.on[on] == nil {
		w.on[on] = make(map[*watch]struct{})
	}
	w.on[on][one] = struct{}{}
}

func (w *watches) drop(on subject, one *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.on[on], one)
	if len(w.on[on]) == 0 {
		delete(w.on, on)
	}
}

func (w *watches) subjects() []subject {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]subject, 0, len(w.on))
	for on := range w.on {
		out = append(out, on)
	}
	return out
}

// end ends all calls that depend on a subject.
func (w *watches) end(on subject, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.on[on] {
		one.cancel(why)
	}
}

// recheck ends open calls whose credential another process has made void.
func (d *Directory) recheck(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.recheckNow(ctx)
		}
	}
}

func (d *Directory) recheckNow(ctx context.Context) {
	for _, on := range d.watches.subjects() {
		if why := d.lost(ctx, on); why != nil {
			d.watches.end(on, why)
		}
	}
}

// lost says why calls that depend on a subject must end; nil if they need not, or
// that cannot be told now.
func (d *Directory) lost(ctx context.Context, on subject) error {
	if on.key == "" {
		_, err := d.store.Tenant(ctx, on.tenant)
		if errors.Is(err, state.ErrNotFound) {
			return tenantGone(on.tenant)
		}
		return d.untold(ctx, err)
	}
	k, err := d.store.Key(ctx, on.key)
	if errors.Is(err, state.ErrNotFound) {
		return unknownKey()
	}
	if err != nil {
		return d.untold(ctx, err)
	}
	return void(k.Body, time.Now())
}

func (d *Directory) untold(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "credentials of open calls cannot be checked", "error", err)
	}
	return nil
}

func tenantGone(name string) error {
	return unauthenticated("the tenant %s does not exist", name)
}
