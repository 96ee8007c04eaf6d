package sdk

import (
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// parentPoll is how often the parent is looked at: often enough that draining
// still fits into handshake.OrphanExit.
const parentPoll = time.Second

// parentWatch notices the death of the host, without a parent-death signal: that
// one fires when a thread of the host ends.
type parentWatch struct {
	orphaned chan struct{}
	stop     chan struct{}
	done     sync.WaitGroup
	once     sync.Once
}

// hostPID returns the host's pid, as it told us or as we see it.
func hostPID() int {
	if pid, err := strconv.Atoi(os.Getenv(handshake.EnvParentPID)); err == nil && pid > 0 { //nolint:forbidigo // part of the handshake
		return pid
	}
	return os.Getppid()
}

// watchParent watches for the time when host is no longer the parent.
func watchParent(host int) *parentWatch {
	w := &parentWatch{orphaned: make(chan struct{}), stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(parentPoll)
		defer tick.Stop()
		for os.Getppid() == host {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
		close(w.orphaned)
	})
	return w
}

// Orphaned is closed when the host has died.
func (w *parentWatch) Orphaned() <-chan struct{} { return w.orphaned }

// Close stops watching.
func (w *parentWatch) Close() {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
}
