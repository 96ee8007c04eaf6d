package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// memory is a store that keeps to what state.Webhooks and state.Events say,
// without a disk: days of fake time are many looks into it. Package storetest
// holds the real ones to the same.
type memory struct {
	mu     sync.Mutex
	hooks  map[string]*state.Webhook
	until  map[string]time.Time
	events []*brokerv1.Event
	first  int // the oldest event that is kept
}

func newMemory() *memory {
	return &memory{hooks: map[string]*state.Webhook{}, until: map[string]time.Time{}}
}

func cursorOf(n int) string { return fmt.Sprintf("%08x", n) }

func copied(w *state.Webhook) *state.Webhook {
	c := *w
	c.Body, c.Events = proto.CloneOf(w.Body), nil
	return &c
}

func (m *memory) InsertWebhook(_ context.Context, w *state.Webhook) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks[w.ID()] = copied(w)
	return nil
}

func (m *memory) Webhook(_ context.Context, id string) (*state.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, ok := m.hooks[id]
	if !ok {
		return nil, state.ErrNotFound
	}
	return copied(w), nil
}

func (m *memory) ListWebhooks(_ context.Context, tenant string, p state.Page) ([]*state.Webhook, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*state.Webhook
	for _, w := range m.hooks {
		if (tenant == "" || w.Body.GetTenant() == tenant) && len(out) < p.Size {
			out = append(out, copied(w))
		}
	}
	return out, "", nil
}

func (m *memory) UpdateWebhook(_ context.Context, w *state.Webhook) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	have, ok := m.hooks[w.ID()]
	if !ok || have.Version != w.Version {
		return state.ErrConflict
	}
	for _, e := range w.Events {
		m.addLocked(e)
	}
	w.Version++
	w.Events = nil
	holder := have.Holder
	m.hooks[w.ID()] = copied(w)
	m.hooks[w.ID()].Holder = holder
	return nil
}

func (m *memory) RemoveWebhook(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.hooks[id]; !ok {
		return state.ErrNotFound
	}
	delete(m.hooks, id)
	return nil
}

func (m *memory) HoldWebhooks(_ context.Context, holder string, now, until time.Time) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int64{}
	for id, w := range m.hooks {
		switch {
		case w.Disabled():
			continue
		case w.Holder == holder:
		case m.until[id].After(now):
			continue
		default:
			w.Holder = holder
			w.Version++
		}
		m.until[id], out[id] = until, w.Version
	}
	return out, nil
}

func (m *memory) ReleaseWebhooks(_ context.Context, holder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, w := range m.hooks {
		if w.Holder == holder {
			m.until[id] = time.Time{}
		}
	}
	return nil
}

func (m *memory) Events(_ context.Context, cursor string, limit int) ([]*brokerv1.Event, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var at int
	if _, err := fmt.Sscanf(cursor, "%08x", &at); err != nil {
		return nil, "", state.ErrBadToken
	}
	if at < m.first || at > len(m.events) {
		return nil, "", state.ErrEventsGone
	}
	out := m.events[at:min(at+limit, len(m.events))]
	return slices.Clone(out), cursorOf(at + len(out)), nil
}

func (m *memory) EventBounds(context.Context) (oldest, newest string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cursorOf(m.first), cursorOf(len(m.events)), nil
}

func (m *memory) addLocked(e *brokerv1.Event) string {
	e.Cursor = cursorOf(len(m.events) + 1)
	m.events = append(m.events, e)
	return e.GetCursor()
}

// happen adds an event of a tenant's sandbox and returns its cursor.
func (m *memory) happen(tenant string, kind brokerv1.EventType, labels map[string]string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addLocked(&brokerv1.Event{At: timestamppb.Now(), Type: kind, Tenant: tenant, SandboxId: "sbx_1", Provider: "p", Labels: labels})
}

// purge drops the oldest events but so many.
func (m *memory) purge(keep int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first = len(m.events) - keep
}

func (m *memory) hook(t *testing.T) *brokerv1.Webhook {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.hooks {
		return proto.CloneOf(w.Body)
	}
	t.Fatal("there is no webhook")
	return nil
}

// crashing is a broker's way to the store, which a crash cuts.
type crashing struct {
	*memory
	mu   sync.Mutex
	dead bool
}

var errDead = errors.New("this broker is dead")

func (c *crashing) crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
}

func (c *crashing) revive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = false
}

func (c *crashing) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	return nil
}

func (c *crashing) UpdateWebhook(ctx context.Context, w *state.Webhook) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.memory.UpdateWebhook(ctx, w)
}

func (c *crashing) HoldWebhooks(ctx context.Context, holder string, now, until time.Time) (map[string]int64, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	return c.memory.HoldWebhooks(ctx, holder, now, until)
}

func (c *crashing) ReleaseWebhooks(ctx context.Context, holder string) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.memory.ReleaseWebhooks(ctx, holder)
}
