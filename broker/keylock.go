package broker

import (
	"context"
	"sync"
)

// keyLocks is a mutex per key. Waiters are served in order of arrival, and can
// give up. The zero value is ready.
type keyLocks struct {
	mu sync.Mutex
	m  map[string]*keyLock
}

// keyLock lives while somebody holds it or waits for it. Its channel holds one
// token; whoever takes it has the lock.
type keyLock struct {
	token chan struct{}
	refs  int
}

// lock waits for the key until ctx ends, and reports whether it got it.
func (l *keyLocks) lock(ctx context.Context, key string) (unlock func(), ok bool) {
	k := l.acquire(key)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.release(key, k) }, true
	case <-ctx.Done():
		l.release(key, k)
		return nil, false
	}
}

// tryLock takes the key if it is free.
func (l *keyLocks) tryLock(key string) (unlock func(), ok bool) {
	k := l.acquire(key)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.release(key, k) }, true
	default:
		l.release(key, k)
		return nil, false
	}
}

func (l *keyLocks) acquire(key string) *keyLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.m[key]
	if k == nil {
		k = &keyLock{token: make(chan struct{}, 1)}
		k.token <- struct{}{}
		if l.m == nil {
			l.m = make(map[string]*keyLock)
		}
		l.m[key] = k
	}
	k.refs++
	return k
}

func (l *keyLocks) release(key string, k *keyLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.refs--; k.refs == 0 {
		delete(l.m, key)
	}
}
