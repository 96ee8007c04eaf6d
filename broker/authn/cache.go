package authn

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// RecheckInterval is how old what is known of a credential or a tenant may be:
	// how long another process's revocation takes to be known here.
	RecheckInterval = 5 * time.Second
	// readLimit bounds one read, which many calls may wait for.
	readLimit = 5 * time.Second
	// maxCached bounds the memory that callers can take; more than that are read
	// again and again.
	maxCached = 4096
)

// cache remembers for its life what read returned without an error.
type cache[T any] struct {
	life   time.Duration
	read   func(ctx context.Context, id string) (T, error)
	flight singleflight.Group

	mu      sync.Mutex
	entries map[string]cached[T]
	// forgotten counts calls of forget, so that what was read before one is not
	// kept after it.
	forgotten uint64
}

type cached[T any] struct {
	value T
	until time.Time
}

func (c *cache[T]) get(ctx context.Context, id string) (T, error) {
	c.mu.Lock()
	e, ok := c.entries[id]
	before := c.forgotten
	c.mu.Unlock()
	if ok && time.Now().Before(e.until) {
		return e.value, nil
	}
	v, err, _ := c.flight.Do(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
		defer cancel()
		return c.read(ctx, id)
	})
	value, _ := v.(T)
	if err == nil {
		c.keep(id, value, before)
	}
	return value, err
}

func (c *cache[T]) keep(id string, value T, before uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgotten != before {
		return
	}
	if c.entries == nil || len(c.entries) >= maxCached {
		c.entries = make(map[string]cached[T])
	}
	c.entries[id] = cached[T]{value, time.Now().Add(c.life)}
}

// forget makes the next get read, and drop what is being read.
func (c *cache[T]) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	delete(c.entries, id)
	c.flight.Forget(id)
}

// forgetAll is forget for everything.
func (c *cache[T]) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	for id := range c.entries {
		c.flight.Forget(id)
	}
	c.entries = nil
}
