package fake

import (
	"context"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// watcher collects the ids of changed sandboxes for one WatchSandboxes. It holds
// each id once, so that a slow reader costs no more memory than there are
// sandboxes.
type watcher struct {
	owner   string
	changed map[string]bool
	wake    chan struct{}
}

// notify marks a sandbox as changed. The caller holds mu.
func (c *cloud) notify(b *box) {
	for w := range c.watchers {
		if w.owner != b.Identity.Owner {
			continue
		}
		w.changed[b.Identity.ID] = true
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// WatchSandboxes implements sdk.Watcher.
func (d *Driver) WatchSandboxes(ctx context.Context, owner string, send func(*providerv1.WatchSandboxesResponse) error) error {
	c := d.vendor()
	w := &watcher{owner: owner, changed: map[string]bool{}, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	first := make([]*providerv1.WatchSandboxesResponse, 0, len(c.owners[owner])+1)
	for _, b := range c.owners[owner] {
		first = append(first, state(c.proto(b)))
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	}()
	first = append(first, &providerv1.WatchSandboxesResponse{Event: &providerv1.WatchSandboxesResponse_Synced{Synced: &providerv1.WatchSynced{}}})
	for {
		for _, event := range first {
			if err := send(event); err != nil {
				return err
			}
		}
		select {
		case <-w.wake:
			first = c.news(w)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func state(sb *providerv1.Sandbox) *providerv1.WatchSandboxesResponse {
	return &providerv1.WatchSandboxesResponse{Event: &providerv1.WatchSandboxesResponse_Sandbox{Sandbox: sb}}
}

func (c *cloud) news(w *watcher) []*providerv1.WatchSandboxesResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*providerv1.WatchSandboxesResponse, 0, len(w.changed))
	for id := range w.changed {
		if b := c.boxes[id]; b != nil {
			out = append(out, state(c.proto(b)))
			continue
		}
		out = append(out, &providerv1.WatchSandboxesResponse{Event: &providerv1.WatchSandboxesResponse_DeletedSandboxId{DeletedSandboxId: id}})
	}
	clear(w.changed)
	return out
}
